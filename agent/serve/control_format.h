/*
 * Between a server and its plugin: a pair of SOCK_SEQPACKET sockets that nobody else has,
 * between a program and a plugin that were built together. One way settings, each a
 * message "NAME=VALUE", the last one empty of a name ("."); the other way events.
 */
#ifndef CLAWBACK_SERVE_CONTROL_FORMAT_H
#define CLAWBACK_SERVE_CONTROL_FORMAT_H

#define CONTROL_SETTING_MAX 8192	/* with its NUL */
#define CONTROL_SETTINGS_MAX 128
#define CONTROL_LAST "."
#define CONTROL_FD 4			/* in nbdkit; 3 is what it listens on */

#endif
