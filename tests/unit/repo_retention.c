/* Retention records: as bytes, in a repository, and what they hide. */
#include "agent/repo/pack_format.h"
#include "tests/unit/retention_lab.h"

static struct retention_lab lab;

static void points(struct random_state *random, uint64_t count)
{
	lab_init(&lab);
	while (lab.newest < count) {
		struct lab_draft draft;

		lab_draft(&lab, random, &draft);
		lab_commit_draft(&lab, random, &draft);
	}
}

static void load(struct retention *retention)
{
	struct error err = ERROR_INIT;

	if (retention_load(lab.repo, &lab.volume, retention, &err))
		fail_msg("%s", err.message);
}

static int forget(struct retention *retention, uint64_t first, uint64_t count,
		  struct error *err)
{
	struct extent_list numbers = EXTENT_LIST_INIT;
	int ret;

	assert_int_equal(0, extent_list_append(&numbers, first, count));
	ret = repo_forget(lab.repo, &lab.volume, retention, &numbers, lab.newest, lab.signer, err);
	extent_list_fini(&numbers);
	return ret;
}

/* ---- bytes --------------------------------------------------------------------- */

static void random_extents(struct random_state *random, uint64_t end, struct extent_list *list)
{
	uint64_t at = 1;

	while (random_below(random, 5) && at + 8 < end) {
		uint64_t count = 1 + random_below(random, 4);

		assert_int_equal(0, extent_list_append(list, at, count));
		at += count + 1 + random_below(random, 3);
	}
}

static void random_map(struct random_state *random, const struct retention *r, uint64_t number,
		       struct retention_map *map)
{
	*map = (struct retention_map){
		.number = number, .sequence = 1 + random_below(random, r->sequence),
		.parent = random_one_in(random, 2) ? number - 1 : 0,
		.bytes = random_below(random, 1u << 31), .wrap_count = random_below(random, 3),
		.wraps = calloc(3, sizeof(*map->wraps)),
	};
	assert_int_equal(0, uuid_new(&map->run));
	map->sha256[random_below(random, 32)] = (uint8_t)random_next(random);
	for (size_t i = 0; i < map->wrap_count; i++)
		map->wraps[i].wrap[random_below(random, CRYPTO_WRAP_SIZE)] = 7;
}

/* Numbers below 50 are pruned, up to 99 forgotten or not, above pinned or rebased. */
static void random_record(struct random_state *random, struct retention *r)
{
	*r = (struct retention){
		.sequence = 1 + random_below(random, 1000), .created_ns = random_next(random) >> 1,
		.marked_ns = random_next(random) >> 1, .through = 200 + random_below(random, 1000),
	};
	random_extents(random, 50, &r->pruned);
	assert_int_equal(0, extent_list_append(&r->forgotten, 60, 1 + random_below(random, 30)));
	assert_int_equal(0, extent_list_append(&r->pinned, 150, 1 + random_below(random, 20)));
	r->serving = calloc(64, sizeof(*r->serving));
	r->maps = calloc(64, sizeof(*r->maps));
	for (uint64_t n = 1; n < 50; n++)
		if (extent_list_contains(&r->pruned, n) && random_one_in(random, 2)) {
			struct retention_serving *serving = &r->serving[r->serving_count++];

			serving->number = n;
			assert_int_equal(0, extent_list_append(&serving->segments,
							       random_below(random, 9), 3));
		}
	r->packs = calloc(8, sizeof(*r->packs));
	r->pack_count = random_below(random, 8);
	r->dead_bytes = random_next(random) >> 1;
	for (size_t i = 0; i < r->pack_count; i++)
		r->packs[i] = (struct retention_pack){
			.sequence = r->sequence, .number = (uint32_t)(2 * i), .first = 3,
			.last = 3 + random_below(random, 99), .bytes = 1000, .items = 3,
			.sha256 = { (uint8_t)random_next(random) },
		};
	for (uint64_t n = 100; n < 120; n++)
		if (random_one_in(random, 3))
			random_map(random, r, n, &r->maps[r->map_count++]);
}

static const struct retention_place place = { { { 1 } }, { { 2 } } };

static void round_trip(void **state)
{
	struct random_state random = random_start("round_trip");

	(void)state;
	for (int round = 0; round < 500; round++) {
		struct retention record, back;
		struct error err = ERROR_INIT;
		char *text, *again;

		random_record(&random, &record);
		text = retention_text(&record, &place);
		assert_non_null(text);
		if (retention_parse(text, strlen(text), &place, &back, &err))
			fail_msg("%s: %s", err.message, text);
		again = retention_text(&back, &place);
		assert_string_equal(text, again);
		assert_int_equal(record.map_count, back.map_count);
		assert_int_equal(record.serving_count, back.serving_count);
		free(text);
		free(again);
		retention_fini(&record);
		retention_fini(&back);
	}
}

/* Members that no clawback would write. */
static void members_refused(void **state)
{
	static const struct { const char *key, *value; } bad[] = {
		{ "format", "\"clawback point\"" }, { "version", "3" }, { "version", "0" },
		{ "sequence", "0" },
		{ "sequence", "-1" }, { "sequence", "\"1\"" }, { "through", "0" },
		{ "previous", "\"00\"" }, { "created_ns", "1.5" }, { "marked_ns", "null" },
		{ "repository", "\"00000000-0000-4000-8000-000000000000\"" },
		{ "volume", "\"00000000-0000-4000-8000-000000000000\"" },
		{ "forgotten", "{}" }, { "forgotten", "[1]" }, { "forgotten", "[[1]]" },
		{ "forgotten", "[[0,1]]" }, { "forgotten", "[[1,0]]" }, { "forgotten", "[[10,1]]" },
		{ "forgotten", "[[3,1],[2,1]]" }, { "forgotten", "[[3,2],[4,1]]" },
		{ "forgotten", "[[2,9223372036854775807]]" }, { "forgotten", "[[1,1]]" },
		{ "forgotten", "[[5,1]]" }, { "pruned", "[[9,2]]" }, { "pinned", "[[11,1]]" },
		{ "pinned", "[[1,1]]" }, { "serving", "[{\"number\":2,\"segments\":[[0,1]]}]" },
		{ "serving", "[{\"number\":1,\"segments\":[]}]" },
		{ "serving", "[{\"number\":1,\"segments\":[[999999,2]]}]" },
		{ "serving", "[{\"number\":1,\"segments\":[[0,1]]},{\"number\":1,\"segments\":[[0,1]]}]" },
		{ "serving", "[1]" }, { "packs", "null" }, { "packs", "[1]" }, { "dead_bytes", "-1" },
		{ "packs", "[{}]" }, { "maps", "[{}]" }, { "maps", "7" }, { "signer", "\"\"" },
	};
	struct retention record = { .sequence = 3, .through = 10 }, back;
	char *text;

	(void)state;
	assert_int_equal(0, extent_list_append(&record.pruned, 1, 1));
	assert_int_equal(0, extent_list_append(&record.pinned, 5, 1));
	text = retention_text(&record, &place);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *object, *value = json_loads(bad[i].value, JSON_DECODE_ANY, NULL);
		struct error err = ERROR_INIT;
		char *changed;

		assert_non_null(value);
		assert_int_equal(0, json_read(text, strlen(text), &object));
		json_object_set_new(object, bad[i].key, value);
		changed = json_dumps(object, 0);
		if (retention_parse(changed, strlen(changed), &place, &back, &err) != -EBADMSG)
			fail_msg("%s = %s was not refused", bad[i].key, bad[i].value);
		assert_int_equal(EXIT_UNTRUSTWORTHY, err.exit);
		json_object_del(object, bad[i].key);
		free(changed);
		changed = json_dumps(object, 0);
		assert_int_equal(-EBADMSG, retention_parse(changed, strlen(changed), &place, &back,
							   &err));
		free(changed);
		json_decref(object);
	}
	free(text);
	retention_fini(&record);
}

/* A pack is of a prune that there was, holds something, and comes once. */
static void packs_refused(void **state)
{
	static const struct retention_pack good = {
		.sequence = 3, .first = 1, .last = 4, .bytes = 200, .items = 3,
	};
	struct retention_pack bad[] = { good, good, good, good, good, good, good, good, good };
	struct retention_pack two[2] = { good, good };
	struct retention record = { .sequence = 3, .through = 5, .packs = two }, back;
	struct error err = ERROR_INIT;
	char *text;

	(void)state;
	bad[0].sequence = 0;
	bad[1].sequence = 4;
	bad[2].number = RETENTION_PACKS_MAX;
	bad[3].first = 0;
	bad[4].last = 5;
	bad[5].first = 5;
	bad[6].items = 0;
	bad[7].bytes = 32 + 3 * 32;
	bad[8].items = PACK_ITEMS_MAX + 1;
	for (size_t i = 0; i <= sizeof(bad) / sizeof(bad[0]); i++) {
		bool refused = i < sizeof(bad) / sizeof(bad[0]);

		record.pack_count = 1;
		two[0] = refused ? bad[i] : good;
		text = retention_text(&record, &place);
		if (retention_parse(text, strlen(text), &place, &back, &err) !=
		    (refused ? -EBADMSG : 0))
			fail_msg("%d: %s", (int)i, text);
		if (!refused)
			retention_fini(&back);
		free(text);
	}
	record.pack_count = 2;
	text = retention_text(&record, &place);
	assert_int_equal(-EBADMSG, retention_parse(text, strlen(text), &place, &back, &err));
	free(text);
}

/* Every index that could be written is read as it was; none with one field changed. */
static void pack_indexes(void **state)
{
	struct random_state random = random_start("pack_indexes");
	struct pack_item items[64];
	struct pack_entry entries[64], changed[64];
	size_t refused = 0;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct retention_pack pack = { .sequence = 1 };
		size_t count = 1 + random_below(&random, 64), at;
		struct pack_index index;

		pack.bytes = 32 + 32 * count;
		pack.items = count;
		for (size_t i = 0; i < count; i++) {
			const struct pack_item *before = i ? &items[i - 1] : NULL;
			bool head = !i || random_one_in(&random, 4);
			bool same = !head && before->kind == PACK_FRAMES &&
				    random_one_in(&random, 2);

			items[i] = (struct pack_item){
				.kind = head ? PACK_HEAD : PACK_FRAMES,
				.point = (before ? before->point : 0) +
					 (head ? 1 + random_below(&random, 3) : 0),
				.segment = head ? 0 : before->segment + !same,
				.offset = head ? 0 : same ? before->offset + before->length +
					  random_below(&random, 9) : 40 + random_below(&random, 9),
				.length = 1 + random_below(&random, 99), .at = pack.bytes,
			};
			pack.bytes += items[i].length;
		}
		pack.first = items[0].point;
		pack.last = items[count - 1].point;
		pack_index_encode(items, count, entries);
		assert_int_equal(0, pack_index_decode(&pack, (uint8_t *)entries, &index));
		assert_int_equal(count, index.count);
		for (size_t i = 0; i < count; i++) {
			const struct pack_item *item = &index.items[i], *found;

			assert_int_equal(items[i].at - 32 * count, item->at);
			assert_int_equal(items[i].length, item->length);
			found = item->kind == PACK_HEAD ? pack_index_head(&index, item->point) :
				pack_index_frames(&index, item->point, item->segment, item->offset +
						  random_below(&random, item->length));
			assert_ptr_equal(item, found);
		}
		assert_null(pack_index_head(&index, pack.last + 1));
		assert_null(pack_index_frames(&index, pack.last, 99, 0));
		pack_index_fini(&index);
		memcpy(changed, entries, sizeof(changed));
		at = random_below(&random, count);
		if (random_one_in(&random, 2))
			changed[at].length = le64(items[at].length + 1);
		else
			changed[at].kind = le32(2 + (uint32_t)random_below(&random, 9));
		assert_int_equal(-EBADMSG, pack_index_decode(&pack, (uint8_t *)changed, &index));
		memcpy(changed, entries, sizeof(changed));
		changed[at].point = le64(random_below(&random, 9));
		if (memcmp(changed, entries, sizeof(changed))) {
			int ret = pack_index_decode(&pack, (uint8_t *)changed, &index);

			assert_true(!ret || ret == -EBADMSG);
			refused += ret != 0;
			if (!ret)
				pack_index_fini(&index);
		}
	}
	assert_true(refused > 500);
}

/* A map that stands in for another has to be of a visible point, onto a visible one. */
static void maps_refused(void **state)
{
	struct retention record = { .sequence = 3, .through = 10 }, back;
	struct retention_map map = { .number = 6, .sequence = 3, .parent = 5 };
	static const struct { uint64_t number, sequence, parent, bytes; int ret; } rows[] = {
		{ 6, 3, 5, 9, 0 }, { 6, 1, 0, 9, 0 }, { 6, 4, 5, 9, -EBADMSG },
		{ 6, 0, 5, 9, -EBADMSG }, { 11, 3, 5, 9, -EBADMSG }, { 2, 3, 0, 9, -EBADMSG },
		{ 6, 3, 6, 9, -EBADMSG }, { 6, 3, 2, 9, -EBADMSG }, { 0, 3, 0, 9, -EBADMSG },
		{ 6, 3, 5, (2ull << 30) + 1, -EBADMSG },
	};

	(void)state;
	assert_int_equal(0, extent_list_append(&record.pruned, 2, 1));
	record.maps = &map;
	record.map_count = 1;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct error err = ERROR_INIT;
		char *text;

		map.number = rows[i].number;
		map.sequence = rows[i].sequence;
		map.parent = rows[i].parent;
		map.bytes = rows[i].bytes;
		text = retention_text(&record, &place);
		assert_int_equal(rows[i].ret, retention_parse(text, strlen(text), &place, &back,
							      &err));
		if (!rows[i].ret)
			retention_fini(&back);
		free(text);
	}
	record.maps = NULL;
	record.map_count = 0;
	retention_fini(&record);
}

/* ---- in a repository ----------------------------------------------------------- */

/* What is hidden, is so by number, in lists, as the latest and by time. */
static void hidden(void **state)
{
	struct random_state random = random_start("hidden");
	struct error err = ERROR_INIT;
	struct retention retention;
	struct point point;

	(void)state;
	points(&random, 6);
	load(&retention);
	assert_int_equal(0, retention.sequence);
	assert_int_equal(0, forget(&retention, 2, 2, &err));
	assert_int_equal(0, forget(&retention, 5, 1, &err));
	for (uint64_t n = 1; n <= 6; n++)
		lab.points[n].visible = n == 1 || n == 4 || n == 6;
	lab_check(&lab, &random);
	assert_int_equal(-ENOENT, point_find(lab.repo, &lab.volume, "3", &point, &err));
	assert_non_null(strstr(err.message, "was forgotten"));
	assert_int_equal(0, point_find(lab.repo, &lab.volume, "latest", &point, &err));
	assert_int_equal(6, point.number);
	point_fini(&point);
	/* Second 5 had a point, which is forgotten. */
	assert_int_equal(0, point_find(lab.repo, &lab.volume, "1970-01-01T00:00:05Z", &point, &err));
	assert_int_equal(4, point.number);
	point_fini(&point);
	retention_fini(&retention);
	lab_fini(&lab);
}

static void refused(void **state)
{
	struct random_state random = random_start("refused");
	struct error err = ERROR_INIT;
	struct retention retention;

	(void)state;
	points(&random, 5);
	load(&retention);
	assert_int_equal(-EINVAL, forget(&retention, 5, 1, &err));
	assert_int_equal(-EINVAL, forget(&retention, 1, 9, &err));
	assert_int_equal(-EINVAL, forget(&retention, 2, UINT64_MAX - 2, &err));
	assert_int_equal(0, repo_pin(lab.repo, &lab.volume, &retention, 3, true, 5, lab.signer, &err));
	assert_int_equal(-EINVAL, forget(&retention, 2, 2, &err));
	assert_non_null(strstr(err.message, "pinned"));
	assert_int_equal(-EINVAL, repo_pin(lab.repo, &lab.volume, &retention, 6, true, 5,
					   lab.signer, &err));
	assert_int_equal(0, repo_pin(lab.repo, &lab.volume, &retention, 3, false, 5, lab.signer,
				     &err));
	assert_int_equal(0, forget(&retention, 2, 2, &err));
	assert_int_equal(-EINVAL, repo_pin(lab.repo, &lab.volume, &retention, 2, true, 5,
					   lab.signer, &err));
	assert_int_equal(3, retention.sequence);
	retention_fini(&retention);
	lab_fini(&lab);
}

/* Of two at once one wins; the other is told, and has changed nothing. */
static void one_wins(void **state)
{
	struct random_state random = random_start("one_wins");
	struct error err = ERROR_INIT;
	struct retention first, second, after;

	(void)state;
	points(&random, 5);
	load(&first);
	load(&second);
	assert_int_equal(0, forget(&first, 2, 1, &err));
	assert_int_equal(-EEXIST, forget(&second, 3, 1, &err));
	assert_int_equal(EXIT_LOCKED, err.exit);
	assert_int_equal(0, second.sequence);
	assert_false(retention_hides(&second, 3));
	retention_fini(&second);
	load(&second);
	assert_true(retention_hides(&second, 2) && !retention_hides(&second, 3));
	assert_int_equal(0, forget(&second, 3, 1, &err));
	load(&after);
	assert_int_equal(2, after.sequence);
	assert_memory_equal(first.hash, after.previous, sizeof(after.previous));
	retention_fini(&first);
	retention_fini(&second);
	retention_fini(&after);
	lab_fini(&lab);
}

/* ---- by whoever holds the store ------------------------------------------------- */

static int load_changed(const char *key, const uint8_t *data, size_t length)
{
	struct retention retention;
	struct error err = ERROR_INIT;
	int ret;

	crash_set(&lab.store, key, data, length);
	ret = retention_load(lab.repo, &lab.volume, &retention, &err);
	assert_true(!ret || err.exit == EXIT_UNTRUSTWORTHY || ret == -EPROTONOSUPPORT);
	if (!ret)
		retention_fini(&retention);
	return ret;
}

static void forged(void **state)
{
	struct random_state random = random_start("forged");
	struct error err = ERROR_INIT;
	struct retention retention;
	char key[STORE_KEY_MAX], later[STORE_KEY_MAX];
	CLEANUP_FREE uint8_t *object = NULL;
	size_t length;

	(void)state;
	points(&random, 3);
	load(&retention);
	assert_int_equal(0, forget(&retention, 1, 1, &err));
	retention_key(&lab.volume, 1, key);
	retention_key(&lab.volume, 2, later);
	assert_int_equal(0, store_get_all(&lab.store.base, key, 1u << 20, &object, &length, &err));
	for (size_t i = 0; i < length; i++) {
		uint8_t was = object[i];

		object[i] ^= (uint8_t)(1u << random_below(&random, 8));
		assert_true(load_changed(key, object, length) < 0);
		object[i] = was;
		assert_true(load_changed(key, object, i) < 0);
	}
	/* Whole, and as if it came later, or behind itself. */
	assert_int_equal(0, load_changed(key, object, length));
	assert_int_equal(-EBADMSG, load_changed(later, object, length));
	retention_fini(&retention);
	lab_fini(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(members_refused),
		cmocka_unit_test(maps_refused), cmocka_unit_test(packs_refused),
		cmocka_unit_test(pack_indexes), cmocka_unit_test(hidden),
		cmocka_unit_test(refused), cmocka_unit_test(one_wins), cmocka_unit_test(forged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
