/* What the files of this room share about an open repository. */
#ifndef CLAWBACK_REPO_REPO_PRIVATE_H
#define CLAWBACK_REPO_REPO_PRIVATE_H

#include "agent/repo/repo.h"

struct repo {
	struct store *store;	/* the caller's */
	struct repo_facts facts;
};

#define REPO_KEY "clawback.json"
#define REPO_OBJECT_MAX (64u << 10)

#endif
