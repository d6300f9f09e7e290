/* For this room only: what wrap.c needs to see of a recovery key. */
#ifndef CLAWBACK_CRYPTO_RECOVERY_H
#define CLAWBACK_CRYPTO_RECOVERY_H

#include "agent/crypto/openssl.h"

struct recovery_private {
	EVP_PKEY *key;		/* OpenSSL wipes it when it is freed */
	struct recovery_public public;
};

#endif
