/* Records of drills: as bytes, one behind the other in a repository, and what is no record. */
#include "agent/repo/drill_format.h"
#include "tests/unit/retention_lab.h"

static struct retention_lab lab;

static void random_text(struct random_state *random, char *text, size_t room)
{
	size_t length = random_below(random, room);

	for (size_t i = 0; i < length; i++)
		text[i] = (char)(' ' + random_below(random, 95));
	text[length] = '\0';
}

static void random_record(struct random_state *random, struct drill_record *record)
{
	*record = (struct drill_record){
		.sequence = 1 + random_below(random, 1000), .point = random_next(random) >> 1,
		.point_time_ns = random_next(random) >> 1, .started_ns = random_next(random) >> 1,
		.duration_ns = random_next(random) >> 1, .data_bytes = random_next(random) >> 1,
		.fetched_bytes = random_next(random) >> 1, .passed = random_one_in(random, 2),
	};
	assert_int_equal(0, uuid_new(&record->run));
	for (int i = 0; i < DRILL_STEPS; i++)
		record->steps_ns[i] = random_one_in(random, 3) ? 0 : random_next(random) >> 1;
	random_text(random, record->message, sizeof(record->message));
	random_text(random, record->host, sizeof(record->host));
	random_text(random, record->file_system, sizeof(record->file_system));
	random_text(random, record->command, sizeof(record->command));
	if (record->passed) {
		record->rto_ns = random_next(random) >> 1;
	} else {
		record->failed = (enum drill_step)random_below(random, DRILL_STEPS);
		record->exit = 1 + random_below(random, 255);
	}
}

static void assert_same(const struct drill_record *a, const struct drill_record *b)
{
	assert_true(a->sequence == b->sequence && uuid_equal(&a->run, &b->run) &&
		    a->point == b->point && a->point_time_ns == b->point_time_ns &&
		    a->started_ns == b->started_ns && a->duration_ns == b->duration_ns &&
		    a->rto_ns == b->rto_ns && a->data_bytes == b->data_bytes &&
		    a->fetched_bytes == b->fetched_bytes && a->passed == b->passed &&
		    a->failed == b->failed && a->exit == b->exit);
	assert_memory_equal(a->steps_ns, b->steps_ns, sizeof(a->steps_ns));
	assert_string_equal(a->message, b->message);
	assert_string_equal(a->host, b->host);
	assert_string_equal(a->file_system, b->file_system);
	assert_string_equal(a->command, b->command);
}

static void round_trip(void **state)
{
	struct random_state random = random_start("round_trip");

	(void)state;
	for (int i = 0; i < 500; i++) {
		struct drill_place place = { .sequence = 0 };
		struct drill_record record, back;
		struct error err = ERROR_INIT;
		CLEANUP_FREE char *text = NULL;

		random_record(&random, &record);
		place.sequence = record.sequence;
		assert_int_equal(0, uuid_new(&place.repository));
		text = drill_text(&record, &place);
		assert_non_null(text);
		if (drill_parse(text, strlen(text), &place, &back, &err))
			fail_msg("%s: %s", text, err.message);
		assert_same(&record, &back);
		place.sequence++;
		assert_int_equal(-EBADMSG, drill_parse(text, strlen(text), &place, &back, &err));
		assert_int_equal(EXIT_UNTRUSTWORTHY, err.exit);
	}
}

/* Bytes that are no UTF-8, in what a program said. */
static void any_bytes(void **state)
{
	struct drill_record record = { .sequence = 1, .passed = true, .message = "caf\xc3",
				       .host = "h\xff" }, back;
	json_t *object = drill_record_json(&record);

	(void)state;
	assert_non_null(object);
	assert_int_equal(0, drill_record_take(object, &back));
	assert_string_equal(back.message, "caf?");
	assert_string_equal(back.host, "h?");
	json_decref(object);
}

static void members_refused(void **state)
{
	static const struct { const char *from, *to; } changes[] = {
		{ "\"format\":\"clawback drill\"", "\"format\":\"clawback point\"" },
		{ "\"version\":1", "\"version\":2" },
		{ "\"passed\":false", "\"passed\":true" },
		{ "\"passed\":false", "\"passed\":0" },
		{ "\"failed\":\"check\"", "\"failed\":\"\"" },
		{ "\"failed\":\"check\"", "\"failed\":\"luck\"" },
		{ "\"exit\":13", "\"exit\":0" },
		{ "\"exit\":13", "\"exit\":256" },
		{ "\"exit\":13", "\"exit\":-1" },
		{ "\"rto_ns\":0", "\"rto_ns\":5" },
		{ "\"point\":7", "\"point\":\"7\"" },
		{ "\"point\":7,", "" },
		{ "\"host\":\"h\"", "\"host\":\"\\u001b[2J\"" },
		{ "\"message\":\"m\"", "\"message\":\"m\\u0000n\"" },
		{ "\"message\":\"m\"", "\"message\":\"a\\nb\"" },
		{ "\"steps_ns\":{}", "\"steps_ns\":[]" },
		{ "\"steps_ns\":{}", "\"steps_ns\":{\"check\":\"x\"}" },
	};
	struct drill_record record = { .sequence = 3, .point = 7, .failed = DRILL_CHECK,
				       .exit = 13, .message = "m", .host = "h" }, back;
	struct drill_place place = { .sequence = 3 };
	CLEANUP_FREE char *text = drill_text(&record, &place);
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(0, drill_parse(text, strlen(text), &place, &back, &err));
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const char *at = strstr(text, changes[i].from);
		char changed[2048];

		if (!at)
			fail_msg("not in the record: %s", changes[i].from);
		snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - text), text,
			 changes[i].to, at + strlen(changes[i].from));
		if (!drill_parse(changed, strlen(changed), &place, &back, &err))
			fail_msg("accepted: %s", changed);
		assert_int_equal(EXIT_UNTRUSTWORTHY, err.exit);
	}
}

/* ---- in a repository ------------------------------------------------------------- */

static void add(uint64_t point)
{
	struct drill_record record = { .point = point, .passed = true, .rto_ns = point };
	struct error err = ERROR_INIT;

	if (repo_drill_add(lab.repo, &lab.volume, &record, lab.signer, &err))
		fail_msg("%s", err.message);
	assert_int_equal(point, record.sequence);
}

static struct drill_record *newest(size_t most, size_t *count, size_t *bad)
{
	struct drill_record *records;
	struct error err = ERROR_INIT;

	if (repo_drills(lab.repo, &lab.volume, most, &records, count, bad, &err))
		fail_msg("%s", err.message);
	return records;
}

static void bounded(void **state)
{
	CLEANUP_FREE struct drill_record *few = NULL, *all = NULL;
	size_t count, bad, before;

	(void)state;
	lab_init(&lab);
	before = lab.store.count;
	few = newest(10, &count, &bad);
	assert_int_equal(0, count);
	for (uint64_t i = 1; i <= REPO_DRILLS_KEPT + 20; i++)
		add(i);
	assert_int_equal(before + REPO_DRILLS_KEPT, lab.store.count);
	free(few);
	few = newest(3, &count, &bad);
	assert_int_equal(3, count);
	assert_int_equal(0, bad);
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(REPO_DRILLS_KEPT + 20 - i, few[i].point);
	all = newest(2 * REPO_DRILLS_KEPT, &count, &bad);
	assert_int_equal(REPO_DRILLS_KEPT, count);
	assert_int_equal(21, all[count - 1].point);
	lab_fini(&lab);
}

/* Whatever a store's owner does to them, none says what no host said. */
static void forged(void **state)
{
	static const size_t at[] = { 0, 8, 20, 70, 200, SIZE_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		CLEANUP_FREE struct drill_record *records = NULL;
		struct crash_object *object;
		char key[STORE_KEY_MAX];
		size_t count, bad;
		bool found;

		lab_init(&lab);
		add(1);
		add(2);
		drill_key(&lab.volume, 2, key);
		object = &lab.store.objects[crash_find(&lab.store, key, &found)];
		assert_true(found);
		object->data[at[i] < object->length ? at[i] : object->length - 1] ^= 1;
		records = newest(10, &count, &bad);
		assert_int_equal(1, count);
		assert_int_equal(1, bad);
		assert_int_equal(1, records[0].point);
		lab_fini(&lab);
	}
}

/* An older record, whole and signed, in a newer one's place. */
static void replayed(void **state)
{
	CLEANUP_FREE struct drill_record *records = NULL;
	CLEANUP_FREE uint8_t *data = NULL;
	struct error err = ERROR_INIT;
	char key[STORE_KEY_MAX];
	size_t length, count, bad;

	(void)state;
	lab_init(&lab);
	add(1);
	drill_key(&lab.volume, 1, key);
	assert_int_equal(0, store_get_all(&lab.store.base, key, 1 << 20, &data, &length, &err));
	drill_key(&lab.volume, 9, key);
	assert_int_equal(0, store_put(&lab.store.base, key, data, length, 0, &err));
	records = newest(10, &count, &bad);
	assert_int_equal(1, count);
	assert_int_equal(1, bad);
	/* The next one goes behind it, and counts. */
	free(STEAL(records));
	{
		struct drill_record record = { .point = 5, .passed = true };

		assert_int_equal(0, repo_drill_add(lab.repo, &lab.volume, &record, lab.signer,
						   &err));
		assert_int_equal(10, record.sequence);
	}
	records = newest(10, &count, &bad);
	assert_int_equal(2, count);
	assert_int_equal(5, records[0].point);
	lab_fini(&lab);
}

static unsigned rivals;

/* Another machine, between our listing and our putting. */
static void rival(const char *key)
{
	struct drill_record record = { .point = 77, .passed = true };
	struct error err = ERROR_INIT;

	if (!strstr(key, "/drills/") || !rivals)
		return;
	rivals--;
	lab.store.before_put = NULL;
	assert_int_equal(0, repo_drill_add(lab.repo, &lab.volume, &record, lab.signer, &err));
	lab.store.before_put = rival;
}

static void both_count(void **state)
{
	CLEANUP_FREE struct drill_record *records = NULL;
	struct drill_record record = { .point = 1, .passed = true };
	struct error err = ERROR_INIT;
	size_t count, bad;

	(void)state;
	lab_init(&lab);
	rivals = 2;
	lab.store.before_put = rival;
	assert_int_equal(0, repo_drill_add(lab.repo, &lab.volume, &record, lab.signer, &err));
	lab.store.before_put = NULL;
	assert_int_equal(3, record.sequence);
	records = newest(10, &count, &bad);
	assert_int_equal(3, count);
	assert_int_equal(1, records[0].point);
	lab_fini(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip), cmocka_unit_test(any_bytes),
		cmocka_unit_test(members_refused), cmocka_unit_test(bounded),
		cmocka_unit_test(forged), cmocka_unit_test(replayed), cmocka_unit_test(both_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
