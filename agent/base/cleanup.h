/*
 * Scope clean-up: CLEANUP_FREE char *p = …; frees p when the scope ends.
 * Hand ownership on with STEAL(p), which leaves NULL (or -1) behind.
 */
#ifndef CLAWBACK_BASE_CLEANUP_H
#define CLAWBACK_BASE_CLEANUP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define CLEANUP(function) __attribute__((cleanup(function)))
#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close)
#define CLEANUP_FCLOSE CLEANUP(cleanup_fclose)

#define STEAL(p) ({ __typeof__(p) stolen_ = (p); (p) = NULL; stolen_; })
#define STEAL_FD(fd) ({ int stolen_ = (fd); (fd) = -1; stolen_; })

#endif
