/*
 * How tests break the boundary protocol on purpose, to see that the comparison
 * notices, and stop it at every stage. NULL in the program itself, always.
 */
#ifndef CLAWBACK_VOLUME_BOUNDARY_TEST_H
#define CLAWBACK_VOLUME_BOUNDARY_TEST_H

#include <stdbool.h>

struct boundary_test_hooks {
	bool skip_copy;		/* leave the current bitmap out of the read set */
	bool late_rotate;	/* rotate after the switch instead of before */
	bool skip_alias;	/* do not track V-real */
	unsigned hold_ms;	/* suspend the volumes this long before rotating, so
				 * that traced writes queue up */
	bool split_group;	/* switch a group's volumes one after another */
	unsigned window_limit_ms; /* of a group's window, instead of the usual */
	void (*stage)(const char *name, void *context);	/* passed a stage */
	void *context;
};

extern const struct boundary_test_hooks *boundary_test_hooks;

/* Tells the hook, if any. Inside a window it must not allocate. */
void boundary_stage(const char *name);

#endif
