/* What a store asks for being read: decimal numbers, in whatever currency. */
#include "agent/config/config_keys.h"

#include <errno.h>
#include <string.h>

#define PRICE_DIGITS 9		/* behind the point */
#define PRICE_MAX 1000000u	/* so that sums stay exact */

/* In billionths. No locale has a say in it. */
static int parse_price(const char *text, uint64_t *price)
{
	uint64_t whole = 0, part = 0;
	int digits = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		whole = 10 * whole + (uint64_t)(*text - '0');
		if (whole > PRICE_MAX)
			return -ERANGE;
	}
	if (*text == '.') {
		for (text++; *text >= '0' && *text <= '9'; text++)
			if (digits++ < PRICE_DIGITS)
				part = 10 * part + (uint64_t)(*text - '0');
		if (!digits)
			return -EINVAL;
	}
	if (*text)
		return -EINVAL;
	for (; digits < PRICE_DIGITS; digits++)
		part *= 10;
	*price = whole * CONFIG_PRICE_UNIT + part;
	return 0;
}

int price_assign(struct config_store *store, const char *key, const char *value,
		 struct error *err)
{
	uint64_t *price = !strcmp(key, "price_get") ? &store->price_get :
			  !strcmp(key, "price_egress") ? &store->price_egress : NULL;

	if (!price)
		return 1;
	if (parse_price(value, price))
		return config_bad_value(err, key, value, "give an amount like 0.09");
	store->priced = true;
	return 0;
}
