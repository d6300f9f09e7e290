/*
 * The schedule, on a clock of the test's own: random lives of several units beside a
 * naive model that remembers every write that is in no stored point yet.
 */
#include "agent/protect/schedule.h"
#include "tests/unit/random.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)
#define UNITS_MAX 6
#define WRITES_MAX 4096

struct sim {
	struct random_state random;
	struct schedule_unit units[UNITS_MAX];
	size_t count;
	int64_t longest_ns[UNITS_MAX];		/* no run takes longer */
	bool steady;				/* … or shorter */
	int64_t writes[UNITS_MAX][WRITES_MAX];	/* in no stored point, oldest first */
	size_t write_count[UNITS_MAX];
	int64_t next_write[UNITS_MAX];
	int64_t write_gap_ns[UNITS_MAX];	/* on average */
	unsigned failing;			/* of 100 runs */
	int64_t now, run_end[UNITS_MAX], instant[UNITS_MAX]; /* of its run that goes on */
	unsigned most, running, whole;		/* runs at once */
	unsigned whole_units;			/* the first of them read all now and then, */
	int64_t whole_ns;			/* which takes so long */
	bool late[UNITS_MAX];			/* its run ended so, which must be told */
	uint64_t runs[UNITS_MAX], skipped, missed, met;
	int64_t worst_ns;			/* of true ages, in their rpo: per mille; */
						/* not of units that read all */
	uint64_t wholes, beside;		/* runs that began while others went on */
};

static int64_t random_span(struct sim *sim, int64_t low, int64_t high)
{
	return low + (int64_t)random_below(&sim->random, (uint64_t)(high - low + 1));
}

/* How old the oldest write really is. */
static int64_t true_age(const struct sim *sim, size_t i)
{
	return sim->write_count[i] ? sim->now - sim->writes[i][0] : 0;
}

static void forget_until(struct sim *sim, size_t i, int64_t instant)
{
	size_t kept = 0;

	for (size_t w = 0; w < sim->write_count[i]; w++)
		if (sim->writes[i][w] > instant)
			sim->writes[i][kept++] = sim->writes[i][w];
	sim->write_count[i] = kept;
}

static void sim_write(struct sim *sim, size_t i)
{
	if (sim->write_count[i] < WRITES_MAX)
		sim->writes[i][sim->write_count[i]++] = sim->now;
	sim->next_write[i] = sim->now + 1 + random_span(sim, 0, 2 * sim->write_gap_ns[i]);
	if (random_one_in(&sim->random, 50))	/* a pause */
		sim->next_write[i] += 20 * sim->units[i].rpo_ns;
}

static void sim_begin(struct sim *sim, ssize_t i)
{
	struct schedule_unit *unit = &sim->units[i];
	int64_t run_ns = unit->whole ? sim->whole_ns : sim->steady ? sim->longest_ns[i] :
			 random_span(sim, sim->longest_ns[i] / 3, sim->longest_ns[i]);

	/* So many at a time, and only one that may. */
	assert_true(sim->running < sim->most);
	sim->beside += sim->running > 0;
	sim->running++;
	sim->whole += unit->whole;
	sim->wholes += unit->whole;
	assert_true(sim->whole < sim->most || sim->most == 1);
	assert_false(sim->units[i].running);
	assert_true(sim->units[i].open);
	assert_true(sim->units[i].retry_ns <= sim->now);
	schedule_begin(&sim->units[i], sim->now);
	sim->instant[i] = sim->now + (run_ns < sim->longest_ns[i] ? run_ns : sim->longest_ns[i]) / 10;
	sim->run_end[i] = sim->now + run_ns;
	sim->runs[i]++;
}

static void sim_end(struct sim *sim, size_t i)
{
	struct schedule_unit *unit = &sim->units[i];
	struct schedule_outcome outcome = {
		.stored = !(sim->failing && random_below(&sim->random, 100) < sim->failing),
		.instant_ns = sim->instant[i],
		.whole = unit->whole,
		.random = (uint32_t)random_next(&sim->random),
	};
	int64_t told, age = true_age(sim, i);
	bool first = !unit->has_point;

	if (!first && i >= sim->whole_units && age * 1000 / unit->rpo_ns > sim->worst_ns)
		sim->worst_ns = age * 1000 / unit->rpo_ns;
	sim->late[i] = !first && age > unit->rpo_ns && outcome.stored &&
		       !unit->missed;
	told = schedule_end(unit, sim->now, &outcome);
	if (!first)
		assert_true(told >= age);	/* an upper bound */
	if (outcome.stored)
		forget_until(sim, i, sim->instant[i]);
	else
		assert_true(unit->retry_ns > sim->now &&
			    unit->retry_ns <= sim->now + (unit->rpo_ns > SECOND ? unit->rpo_ns : SECOND));
	sim->running--;
	sim->whole -= unit->whole;
	if (outcome.stored && unit->whole) {
		unit->whole = false;
		unit->calendar_ns = SCHEDULE_NEVER;
	}
}

/* The calendar asks, now and then. */
static void sim_calendar(struct sim *sim)
{
	for (size_t i = 0; i < sim->whole_units; i++) {
		struct schedule_unit *unit = &sim->units[i];

		if (unit->running || unit->whole || !unit->has_point ||
		    !random_one_in(&sim->random, 30))
			continue;
		unit->whole = true;
		unit->calendar_ns = sim->now;
	}
}

static void sim_look(struct sim *sim)
{
	ssize_t i;

	while ((i = schedule_look(sim->units, sim->count, sim->now)) >= 0) {
		struct schedule_unit *unit = &sim->units[i];

		if (!unit->has_point || sim->write_count[i])
			schedule_dirty(unit, true);
		else if (schedule_clean(unit, sim->now))
			sim->skipped++;
		else
			assert_true(sim->now - unit->point_ns >= unit->idle_ns ||
				    unit->calendar_ns <= sim->now);
	}
}

/* What is decided at one moment. */
static void sim_decide(struct sim *sim)
{
	sim_look(sim);
	for (;;) {
		ssize_t i = schedule_pick(sim->units, sim->count,
					  schedule_room(sim->most, sim->running, sim->whole));

		if (i < 0)
			break;
		sim_begin(sim, i);
	}
	for (size_t i = 0; i < sim->count; i++) {
		struct schedule_unit *unit = &sim->units[i];
		enum schedule_change change = schedule_objective(sim->units, sim->count, i, sim->now);

		sim->missed += change == SCHEDULE_MISSED;
		sim->met += change == SCHEDULE_MET;
		/* Nothing that is missed goes unsaid. */
		if (unit->has_point && unit->open && true_age(sim, i) > unit->rpo_ns)
			assert_true(unit->missed);
		assert_true(!sim->late[i] || change == SCHEDULE_MISSED);
		sim->late[i] = false;
		if (unit->has_point && unit->dirty)
			assert_true(schedule_age(unit, sim->now) >= true_age(sim, i));
	}
}

static void sim_run(struct sim *sim, int64_t until)
{
	while (sim->now < until) {
		int64_t next;

		sim_calendar(sim);
		sim_decide(sim);
		next = schedule_wake(sim->units, sim->count, sim->now);
		assert_true(next > sim->now);	/* never without a pause */
		for (size_t i = 0; i < sim->count; i++)
			if (sim->units[i].running && sim->run_end[i] < next)
				next = sim->run_end[i];
		for (size_t i = 0; i < sim->count; i++)
			if (sim->next_write[i] < next)
				next = sim->next_write[i];
		if (next > until)
			next = until;
		sim->now = next;
		for (size_t i = 0; i < sim->count; i++)
			if (sim->units[i].running && sim->run_end[i] <= sim->now)
				sim_end(sim, i);
		for (size_t i = 0; i < sim->count; i++)
			if (sim->next_write[i] <= sim->now)
				sim_write(sim, i);
	}
}

/* `fit` per mille: all runs twice, of the shortest rpo. */
static void sim_start(struct sim *sim, unsigned fit)
{
	int64_t shortest = INT64_MAX;

	sim->count = 1 + random_below(&sim->random, UNITS_MAX);
	if (!sim->most)
		sim->most = 1;
	for (size_t i = 0; i < sim->count; i++) {
		struct schedule_unit *unit = &sim->units[i];

		schedule_init(unit, 0, 0);
		unit->rpo_ns = random_span(sim, 1, 120) * SECOND;
		unit->idle_ns = random_one_in(&sim->random, 3) ? 0 : random_span(sim, 120, 600) * SECOND;
		if (unit->rpo_ns < shortest)
			shortest = unit->rpo_ns;
	}
	for (size_t i = 0; i < sim->count; i++) {
		sim->longest_ns[i] = (int64_t)(shortest * fit / 1000 / 2 / (int64_t)sim->count);
		if (sim->steady)
			sim->units[i].runs_ns[sim->units[i].run_count++] = sim->longest_ns[i];
		sim->write_gap_ns[i] = random_span(sim, SECOND, 3 * sim->units[i].rpo_ns);
		sim->next_write[i] = random_span(sim, 0, SECOND);
	}
}

/* Runs that fit and do not fail keep every objective. */
static void none_is_late(void **state)
{
	struct random_state random = random_start("none_is_late");
	static struct sim sim;
	int64_t worst = 0;
	uint64_t runs = 0, skipped = 0;

	(void)state;
	for (int round = 0; round < 60; round++) {
		memset(&sim, 0, sizeof(sim));
		sim.random = random;
		/* Units start together, and the first points wait for one another. */
		sim.steady = true;
		sim_start(&sim, 850);
		sim_run(&sim, 1500 * SECOND);
		assert_true(sim.worst_ns <= 1000);
		assert_true(sim.missed == sim.met);
		for (size_t i = 0; i < sim.count; i++)
			runs += sim.runs[i];
		skipped += sim.skipped;
		worst = sim.worst_ns > worst ? sim.worst_ns : worst;
		random = sim.random;
	}
	printf("  %llu runs, %llu skipped, the oldest write %lld per mille of its rpo\n",
	       (unsigned long long)runs, (unsigned long long)skipped, (long long)worst);
	assert_true(skipped > 1000 && worst > 500);
}

/* The same on several places, with units that read all of their volume for a long time. */
static void a_full_delays_no_other(void **state)
{
	struct random_state random = random_start("a_full_delays_no_other");
	static struct sim sim;
	uint64_t wholes = 0, beside = 0, runs = 0;
	int64_t worst = 0;

	(void)state;
	for (int round = 0; round < 60; round++) {
		memset(&sim, 0, sizeof(sim));
		sim.random = random;
		sim.steady = true;
		sim.most = 2 + (unsigned)random_below(&sim.random, 3);
		sim_start(&sim, 850);
		sim.whole_units = (unsigned)random_below(&sim.random, sim.count);
		sim.whole_ns = random_span(&sim, 10, 200) * SECOND;
		sim_run(&sim, 1500 * SECOND);
		assert_true(sim.worst_ns <= 1000);
		for (size_t i = sim.whole_units; i < sim.count; i++) {
			assert_false(sim.units[i].missed);
			runs += sim.runs[i];
		}
		wholes += sim.wholes;
		beside += sim.beside;
		worst = sim.worst_ns > worst ? sim.worst_ns : worst;
		random = sim.random;
	}
	printf("  %llu runs, %llu of whole volumes, %llu beside others, the oldest write %lld "
	       "per mille of its rpo\n", (unsigned long long)runs, (unsigned long long)wholes,
	       (unsigned long long)beside, (long long)worst);
	assert_true(wholes > 200 && beside > 1000 && worst > 500);
}

/* Failing and too slow: what is missed is said, everyone gets a turn, time goes on. */
static void failures_and_overload(void **state)
{
	struct random_state random = random_start("failures_and_overload");
	static struct sim sim;
	uint64_t missed = 0, met = 0;

	(void)state;
	for (int round = 0; round < 60; round++) {
		memset(&sim, 0, sizeof(sim));
		sim.random = random;
		sim_start(&sim, (unsigned)random_span(&sim, 100, 6000));
		sim.failing = (unsigned)random_below(&sim.random, 60);
		sim.most = 1 + (unsigned)random_below(&sim.random, 3);
		sim.whole_units = (unsigned)random_below(&sim.random, sim.count + 1);
		sim.whole_ns = random_span(&sim, 1, 100) * SECOND;
		sim_run(&sim, 3000 * SECOND);
		for (size_t i = 0; i < sim.count; i++)
			assert_true(sim.runs[i] >= 1);
		missed += sim.missed;
		met += sim.met;
		random = sim.random;
	}
	assert_true(missed > 100 && met > 100 && met <= missed);
}

/* All fail for a while, then none: each is stored again within a bounded time. */
static void outage(void **state)
{
	struct random_state random = random_start("outage");
	static struct sim sim;

	(void)state;
	for (int round = 0; round < 30; round++) {
		uint64_t met;

		memset(&sim, 0, sizeof(sim));
		sim.random = random;
		sim.steady = true;
		sim_start(&sim, 500);
		sim_run(&sim, 300 * SECOND);
		sim.failing = 100;
		sim_run(&sim, 1300 * SECOND);
		sim.failing = 0;
		met = sim.met;
		sim_run(&sim, 1700 * SECOND);
		for (size_t i = 0; i < sim.count; i++)
			assert_true(true_age(&sim, i) <= sim.units[i].rpo_ns &&
				    !sim.units[i].missed && !sim.units[i].failures);
		assert_true(sim.met >= met);
		random = sim.random;
	}
}

static const struct schedule_room one_place = { 1, 1 };
static struct schedule_unit two[2];

static void two_units(void)
{
	for (int i = 0; i < 2; i++) {
		schedule_init(&two[i], 0, SECOND);
		two[i].rpo_ns = 100 * SECOND;
	}
}

static void turns(void **state)
{
	struct schedule_outcome failed = { .stored = false };

	(void)state;
	two_units();
	schedule_point(&two[0], -50 * SECOND);
	schedule_point(&two[1], -200 * SECOND);
	/* lead: 1 s of its own, 1 s of the other, 1 s of margin */
	assert_true(schedule_due(two, 2, 0) == 47 * SECOND);
	assert_true(schedule_due(two, 2, 1) == -103 * SECOND);
	assert_int_equal(schedule_look(two, 2, 0), 1);
	schedule_dirty(&two[1], true);
	assert_int_equal(schedule_look(two, 2, 0), -1);
	assert_int_equal(schedule_look(two, 2, 47 * SECOND), 0);
	schedule_dirty(&two[0], true);
	assert_int_equal(schedule_pick(two, 2, one_place), 1);	/* due longest */
	schedule_begin(&two[1], 47 * SECOND);
	assert_int_equal(schedule_pick(two, 2, one_place), 0);
	schedule_end(&two[1], 48 * SECOND, &failed);
	/* It was due first, but failed: not in front of the other. */
	assert_int_equal(schedule_look(two, 2, 60 * SECOND), 1);
	schedule_dirty(&two[1], true);
	assert_int_equal(schedule_pick(two, 2, one_place), 0);
}

static void places(void **state)
{
	struct schedule_room room;

	(void)state;
	for (unsigned most = 1; most < 5; most++)
		for (unsigned whole = 0; whole < 6; whole++)
			for (unsigned running = whole; running < 6; running++) {
				room = schedule_room(most, running, whole);
				assert_int_equal(room.runs, running < most ? most - running : 0);
				/* A reload may have made it less than there go on. */
				assert_int_equal(room.whole > 0, whole < (most > 1 ? most - 1 : 1));
			}
	two_units();
	for (int i = 0; i < 2; i++) {
		schedule_point(&two[i], -200 * SECOND);
		schedule_dirty(&two[i], true);
	}
	schedule_point(&two[0], -300 * SECOND);
	schedule_dirty(&two[0], true);
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 1, 1 }), 0);
	two[0].whole = true;
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 1, 1 }), 0);
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 1, 0 }), 1);
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 0, 1 }), -1);
	two[1].busy = true;
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 1, 0 }), -1);
	two[0].whole = false;
	assert_int_equal(schedule_pick(two, 2, (struct schedule_room){ 1, 0 }), 0);
}

static void fulls_and_windows(void **state)
{
	(void)state;
	two_units();
	schedule_point(&two[0], 0);
	schedule_point(&two[1], 0);
	two[1].open = false;
	two[1].opens_ns = 500 * SECOND;
	two[0].calendar_ns = 10 * SECOND;
	assert_true(schedule_wake(two, 2, 0) == 10 * SECOND);
	assert_int_equal(schedule_look(two, 2, 10 * SECOND), 0);
	/* A full is due although nothing was written. */
	assert_false(schedule_clean(&two[0], 10 * SECOND));
	assert_int_equal(schedule_pick(two, 2, one_place), 0);
	two[0].calendar_ns = SCHEDULE_NEVER;
	schedule_begin(&two[0], 10 * SECOND);
	/* Closed: neither run, nor looked at, nor late. */
	assert_int_equal(schedule_look(two, 2, 300 * SECOND), -1);
	schedule_dirty(&two[1], true);
	assert_int_equal(schedule_pick(two, 2, one_place), -1);
	assert_int_equal(schedule_objective(two, 2, 1, 300 * SECOND), SCHEDULE_SAME);
	two[1].open = true;
	two[1].opened_ns = 500 * SECOND;
	assert_int_equal(schedule_objective(two, 2, 1, 501 * SECOND), SCHEDULE_SAME);
	assert_int_equal(schedule_pick(two, 2, one_place), 1);
	assert_int_equal(schedule_objective(two, 2, 1, 600 * SECOND), SCHEDULE_MISSED);
	assert_int_equal(schedule_objective(two, 2, 1, 601 * SECOND), SCHEDULE_SAME);
}

/* What was found clean by a tracker that is not trusted any more counts no longer. */
/* A window of four hours a day, and an objective of one: missed, unless a run keeps it. */
static void a_day_over_windows(void **state)
{
	const int64_t day = 86400 * SECOND;
	struct schedule_unit unit;

	(void)state;
	for (int kept = 0; kept < 2; kept++) {
		schedule_init(&unit, 0, SECOND);
		unit.rpo_ns = day;
		unit.open = false;
		schedule_point(&unit, 0);
		schedule_dirty(&unit, true);
		schedule_open(&unit, 1, 0, day - SECOND, true);
		assert_true(schedule_due(&unit, 1, 0) <= day);
		assert_int_equal(SCHEDULE_SAME, schedule_objective(&unit, 1, 0, day - SECOND));
		if (kept)
			schedule_point(&unit, day);
		else
			assert_int_equal(SCHEDULE_MISSED,
					 schedule_objective(&unit, 1, 0, day + 14400 * SECOND));
		/* The next window: it does not begin anew. */
		unit.open = false;
		schedule_open(&unit, 1, 0, 2 * day - SECOND, true);
		assert_int_equal(kept, !unit.missed);
		if (kept)
			assert_int_equal(SCHEDULE_MISSED,
					 schedule_objective(&unit, 1, 0, 2 * day + 14400 * SECOND));
	}
	/* A shorter one does: nobody could have kept it while the window was closed. */
	schedule_init(&unit, 0, SECOND);
	unit.rpo_ns = 3600 * SECOND;
	schedule_point(&unit, 0);
	schedule_dirty(&unit, true);
	schedule_open(&unit, 1, 0, day, true);
	assert_int_equal(SCHEDULE_SAME, schedule_objective(&unit, 1, 0, day + 1800 * SECOND));
	assert_int_equal(SCHEDULE_MISSED, schedule_objective(&unit, 1, 0, day + 7200 * SECOND));
	/* But a blackout puts it off by no more than a run. */
	schedule_open(&unit, 1, 0, 2 * day, false);
	assert_true(schedule_due(&unit, 1, 0) <= 2 * day);
}

static void distrust(void **state)
{
	(void)state;
	two_units();
	schedule_point(&two[0], 0);
	assert_true(schedule_clean(&two[0], 90 * SECOND));
	assert_true(schedule_age(&two[0], 95 * SECOND) == 0);
	schedule_dirty(&two[0], true);
	assert_true(schedule_age(&two[0], 95 * SECOND) == 5 * SECOND);
	schedule_dirty(&two[0], false);
	assert_true(schedule_age(&two[0], 95 * SECOND) == 95 * SECOND);
}

/* A run that takes long: said when the time is over, though nothing was known to be written. */
static void long_run(void **state)
{
	struct schedule_outcome stored = { .stored = true, .instant_ns = 11 * SECOND, .whole = true };

	(void)state;
	two_units();
	schedule_point(&two[0], 0);
	two[0].calendar_ns = 10 * SECOND;
	assert_false(schedule_clean(&two[0], 10 * SECOND));
	schedule_begin(&two[0], 10 * SECOND);
	assert_int_equal(schedule_objective(two, 1, 0, 110 * SECOND), SCHEDULE_SAME);
	assert_true(schedule_wake(two, 1, 20 * SECOND) == 110 * SECOND + 1);
	assert_int_equal(schedule_objective(two, 1, 0, 110 * SECOND + 1), SCHEDULE_MISSED);
	two[0].calendar_ns = SCHEDULE_NEVER;
	assert_true(schedule_end(&two[0], 500 * SECOND, &stored) == 490 * SECOND);
	assert_int_equal(schedule_objective(two, 1, 0, 500 * SECOND), SCHEDULE_SAME);
	/* A full says nothing about the usual run. */
	assert_true(schedule_duration(&two[0]) == SECOND);
	assert_true(schedule_clean(&two[0], 501 * SECOND));
	assert_int_equal(schedule_objective(two, 1, 0, 501 * SECOND), SCHEDULE_MET);
}

/* Who wakes up too late to see it missed is told all the same. */
static void late_run(void **state)
{
	struct schedule_outcome stored = { .stored = true, .instant_ns = 95 * SECOND };

	(void)state;
	two_units();
	schedule_point(&two[0], 0);
	schedule_dirty(&two[0], true);
	schedule_begin(&two[0], 95 * SECOND);
	assert_int_equal(schedule_objective(two, 1, 0, 95 * SECOND), SCHEDULE_SAME);
	assert_true(schedule_end(&two[0], 101 * SECOND, &stored) == 101 * SECOND);
	assert_int_equal(schedule_objective(two, 1, 0, 101 * SECOND), SCHEDULE_MISSED);
	assert_int_equal(schedule_objective(two, 1, 0, 101 * SECOND), SCHEDULE_SAME);
}

static void pauses(void **state)
{
	struct random_state random = random_start("pauses");

	(void)state;
	for (int round = 0; round < 5000; round++) {
		unsigned failures = 1 + (unsigned)random_below(&random, 40);
		int64_t rpo = (1 + (int64_t)random_below(&random, 100000)) * SECOND;
		int64_t most = rpo < 300 * SECOND ? rpo : 300 * SECOND, wanted = SECOND, got;

		for (unsigned i = 1; i < failures && wanted < most; i++)
			wanted *= 2;
		wanted = wanted < most ? wanted : most;
		got = schedule_pause(failures, rpo, (uint32_t)random_next(&random));
		assert_true(got <= wanted && got >= wanted / 2);
	}
	assert_true(schedule_pause(1, SECOND, 0) == SECOND);
	assert_true(schedule_pause(UINT32_MAX, INT64_MAX, 0) == 300 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(none_is_late),
		cmocka_unit_test(a_full_delays_no_other),
		cmocka_unit_test(failures_and_overload),
		cmocka_unit_test(outage),
		cmocka_unit_test(turns),
		cmocka_unit_test(places),
		cmocka_unit_test(fulls_and_windows),
		cmocka_unit_test(a_day_over_windows),
		cmocka_unit_test(distrust),
		cmocka_unit_test(long_run),
		cmocka_unit_test(late_run),
		cmocka_unit_test(pauses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
