/*
 * Named fault points, for tests: places where the agent can be killed or a step be
 * made to fail. Only a build with FAULTS=1 has them; else they are nothing, and the
 * environment is not looked at.
 *
 *   CLAWBACK_FAULT=NAME:WHAT[:N]	when NAME is passed for the Nth time (first: 1)
 *	WHAT: kill (SIGKILL to itself), stop (SIGSTOP, to go on after a SIGCONT), or EIO,
 *	ENOSPC, ENOMEM: the step fails so
 *   CLAWBACK_FAULT_LOG=FILE		appends the name of every point that is passed
 *
 * A point stands before the step that it is named after: killed there, the step
 * before was the last. Any thread.
 */
#ifndef CLAWBACK_BASE_FAULT_H
#define CLAWBACK_BASE_FAULT_H

#include "agent/base/error.h"

#ifdef CLAWBACK_FAULTS
int fault_at(const char *name);
int fault_error(const char *name, struct error *err);
#define FAULT(name) fault_at(name)		/* 0 or -errno */
#define FAULT_ERR(name, err) fault_error(name, err) /* the same; fills `err` */
#else
#define FAULT(name) 0
#define FAULT_ERR(name, err) 0
#endif

#endif
