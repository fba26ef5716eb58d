use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules {
        batch_records: 10,
        batch_bytes: 1_000,
        wait: Duration::from_secs(2),
        window: 4,
        planned_max: 16,
        queue_bytes: 10_000,
        order: Order::Strict,
        backoff: Backoff { min: Duration::from_millis(500), max: Duration::from_secs(30) },
        records_per_second: None,
        bytes_per_second: None,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn delivery(rules: Rules, n_lanes: u32) -> Delivery {
    let mut delivery = Delivery::new(rules, Dice::new(1), at(0));
    (0..n_lanes).for_each(|lane| delivery.open_lane(lane, 0));
    delivery
}

fn push(delivery: &mut Delivery, lane: LaneId, n: usize, now: Duration) {
    (0..n).for_each(|_| delivery.push(lane, 20, now));
}

fn later(after: Option<u64>) -> Answer {
    Answer::Later { why: "status 503".into(), after: after.map(at) }
}

/// Plans all that can be, and says they are durable.
fn plan_all(delivery: &mut Delivery, now: Duration) -> Vec<Plan> {
    let plans: Vec<Plan> = std::iter::from_fn(|| delivery.poll_plan(now)).collect();
    plans.iter().for_each(|plan| delivery.ready(plan.key));
    plans
}

#[test]
fn a_batch_is_sealed_by_count_by_bytes_or_by_age() {
    let mut delivery = delivery(rules(), 3);
    push(&mut delivery, 0, 4, at(0));
    push(&mut delivery, 1, 5, at(1));
    assert_eq!(delivery.poll_plan(at(1)), None);
    assert_eq!(delivery.next_due(at(1)), Some(at(2)));
    push(&mut delivery, 2, 3, at(1));
    let parts = |plan: Option<Plan>| plan.map(|plan| plan.parts.iter().map(|p| (p.lane, p.first, p.n)).collect());
    assert_eq!(parts(delivery.poll_plan(at(1))), Some(vec![(0, 0, 4), (1, 0, 5), (2, 0, 1)]));
    assert_eq!(delivery.poll_plan(at(2)), None);
    assert_eq!(parts(delivery.poll_plan(at(3))), Some(vec![(2, 1, 2)]));
    delivery.push(0, 900, at(3));
    delivery.push(0, 200, at(3));
    delivery.push(0, 5_000, at(3));
    assert_eq!(parts(delivery.poll_plan(at(3))), Some(vec![(0, 4, 1)]));
    assert_eq!(parts(delivery.poll_plan(at(3))), Some(vec![(0, 5, 1)]));
    assert_eq!(parts(delivery.poll_plan(at(3))), Some(vec![(0, 6, 1)]), "larger than a batch: alone");
    assert_eq!(delivery.poll_plan(at(9)), None);
}

#[test]
fn one_container_s_batches_go_one_after_the_other_and_others_beside_them() {
    let mut delivery = delivery(rules(), 2);
    push(&mut delivery, 0, 30, at(0));
    push(&mut delivery, 1, 10, at(0));
    assert_eq!(plan_all(&mut delivery, at(0)).len(), 4);
    let (first, _) = delivery.poll_send(at(0)).unwrap();
    let (other, _) = delivery.poll_send(at(0)).unwrap();
    assert_eq!(delivery.poll_send(at(0)), None);
    assert_eq!(delivery.handle_answer(other, Answer::Accepted, at(0)), Outcome::Nothing);
    assert_eq!(delivery.poll_send(at(0)), None);
    delivery.handle_answer(first, Answer::Accepted, at(0));
    assert!(delivery.poll_send(at(0)).is_some());
}

#[test]
fn relaxed_batches_overtake_and_still_retire_in_order() {
    let mut delivery = delivery(Rules { order: Order::Relaxed, ..rules() }, 1);
    push(&mut delivery, 0, 20, at(0));
    plan_all(&mut delivery, at(0));
    let (first, _) = delivery.poll_send(at(0)).unwrap();
    let (second, _) = delivery.poll_send(at(0)).unwrap();
    delivery.handle_answer(second, Answer::Accepted, at(0));
    assert_eq!(delivery.poll_retired(), None);
    delivery.handle_answer(first, Answer::Accepted, at(0));
    let ends: Vec<u64> = std::iter::from_fn(|| delivery.poll_retired()).map(|retired| retired.parts[0].end()).collect();
    assert_eq!(ends, [10, 20]);
    assert!(delivery.is_empty() && delivery.held_bytes() == 0);
}

#[test]
fn nothing_is_sent_before_its_bounds_are_durable() {
    let mut delivery = delivery(rules(), 1);
    push(&mut delivery, 0, 10, at(0));
    let plan = delivery.poll_plan(at(0)).unwrap();
    assert_eq!(delivery.poll_send(at(0)), None);
    delivery.ready(plan.key);
    assert_eq!(delivery.poll_send(at(0)), Some((plan.key, 1)));
}

#[test]
fn a_dead_receiver_opens_the_circuit_and_is_tried_by_one() {
    let mut delivery = delivery(rules(), 4);
    (0..4).for_each(|lane| push(&mut delivery, lane, 10, at(0)));
    plan_all(&mut delivery, at(0));
    let mut now = at(0);
    let mut n_tries = 0;
    while now < at(600) {
        let mut keys = Vec::new();
        while let Some((key, _)) = delivery.poll_send(now) {
            keys.push(key);
        }
        if delivery.circuit().state() == CircuitState::Open {
            assert!(keys.len() <= 1);
        }
        n_tries += keys.len();
        for key in keys {
            delivery.handle_answer(key, later(None), now);
        }
        now = delivery.next_due(now).expect("it is tried for ever").max(now + Duration::from_millis(1));
    }
    assert_eq!(delivery.circuit().state(), CircuitState::Open);
    assert!((25..120).contains(&n_tries), "{n_tries} tries in ten minutes");
    let key = std::iter::from_fn(|| {
        now += at(30);
        Some(delivery.poll_send(now))
    });
    let (key, n_try) = key.flatten().next().unwrap();
    assert!(n_try > 1);
    delivery.handle_answer(key, Answer::Accepted, now);
    assert_eq!((delivery.circuit().state(), delivery.circuit().why()), (CircuitState::Closed, None));
}

#[test]
fn retry_after_is_waited_for_by_all() {
    let mut delivery = delivery(rules(), 2);
    (0..2).for_each(|lane| push(&mut delivery, lane, 10, at(0)));
    plan_all(&mut delivery, at(0));
    let (key, _) = delivery.poll_send(at(0)).unwrap();
    delivery.handle_answer(key, later(Some(20)), at(0));
    assert_eq!(delivery.poll_send(at(19)), None);
    assert_eq!(delivery.next_due(at(1)), Some(at(20)));
    assert!(delivery.poll_send(at(20)).is_some());
}

#[test]
fn a_refusal_holds_everything_and_heals() {
    let mut delivery = delivery(rules(), 2);
    (0..2).for_each(|lane| push(&mut delivery, lane, 10, at(0)));
    plan_all(&mut delivery, at(0));
    let (key, _) = delivery.poll_send(at(0)).unwrap();
    delivery.handle_answer(key, Answer::Refused("status 401".into()), at(0));
    assert_eq!((delivery.circuit().state(), delivery.circuit().why()), (CircuitState::Held, Some("status 401")));
    assert_eq!(delivery.poll_send(at(0)), None);
    let (key, _) = delivery.poll_send(at(60)).unwrap();
    assert_eq!(delivery.poll_send(at(60)), None, "one at a time");
    delivery.handle_answer(key, Answer::Accepted, at(60));
    assert!(delivery.poll_send(at(60)).is_some());
}

/// What a receiver does that refuses some records.
fn deliver_with(delivery: &mut Delivery, is_bad: impl Fn(LaneId, u64) -> bool) -> (BTreeSet<(LaneId, u64)>, usize) {
    let mut keyed: BTreeMap<BatchKey, Vec<Part>> = BTreeMap::new();
    let (mut buried, mut n_requests) = (BTreeSet::new(), 0);
    let mut now = at(100);
    while !delivery.is_empty() {
        keyed.extend(plan_all(delivery, now).into_iter().map(|plan| (plan.key, plan.parts)));
        let Some((key, _)) = delivery.poll_send(now) else {
            now += at(1);
            continue;
        };
        n_requests += 1;
        let records = |part: &Part| (part.first..part.end()).map(|no| (part.lane, no)).collect::<Vec<_>>();
        let held: Vec<(LaneId, u64)> = keyed[&key].iter().flat_map(records).collect();
        let bad = held.iter().any(|(lane, no)| is_bad(*lane, *no));
        let answer = if bad { Answer::Rejected("status 400".into()) } else { Answer::Accepted };
        match delivery.handle_answer(key, answer, now) {
            Outcome::Nothing => {}
            Outcome::Split { halves, .. } => {
                for plan in halves {
                    delivery.ready(plan.key);
                    keyed.insert(plan.key, plan.parts);
                }
            }
            Outcome::Bury { key, .. } => {
                buried.insert(held[0]);
                delivery.buried(key);
            }
        }
    }
    (buried, n_requests)
}

#[test]
fn one_bad_record_is_found_by_halves() {
    let mut delivery = delivery(Rules { batch_records: 200, batch_bytes: 1 << 20, ..rules() }, 3);
    push(&mut delivery, 0, 150, at(0));
    push(&mut delivery, 1, 50, at(0));
    let (buried, n_requests) = deliver_with(&mut delivery, |lane, no| (lane, no) == (1, 7));
    assert_eq!(buried, BTreeSet::from([(1, 7)]));
    assert!(n_requests <= 17, "{n_requests}: twice the logarithm of 200");
}

#[test]
fn a_receiver_that_refuses_every_record_is_not_the_records_fault() {
    let mut delivery = delivery(rules(), 1);
    push(&mut delivery, 0, 400, at(0));
    let mut n_buried = 0;
    let mut now = at(0);
    while now < at(3600) {
        plan_all(&mut delivery, now);
        while let Some((key, _)) = delivery.poll_send(now) {
            match delivery.handle_answer(key, Answer::Rejected("status 422".into()), now) {
                Outcome::Nothing => {}
                Outcome::Split { halves, .. } => halves.iter().for_each(|plan| delivery.ready(plan.key)),
                Outcome::Bury { key, .. } => {
                    n_buried += 1;
                    delivery.buried(key);
                }
            }
        }
        now += at(10);
    }
    assert_eq!(n_buried, BURIED_IN_A_ROW_MAX);
    assert_eq!(delivery.circuit().state(), CircuitState::Held);
}

/// Answers every batch by `answer`, for an hour of tries. The records that were put aside, by lane.
fn answer_for_an_hour(delivery: &mut Delivery, answer: impl Fn(LaneId) -> Answer) -> BTreeMap<LaneId, u32> {
    let (mut buried, mut now) = (BTreeMap::new(), at(0));
    while now < at(3600) {
        plan_all(delivery, now);
        while let Some((key, _)) = delivery.poll_send(now) {
            let lane = delivery.batch(key).parts[0].lane;
            match delivery.handle_answer(key, answer(lane), now) {
                Outcome::Nothing => {}
                Outcome::Split { halves, .. } => halves.iter().for_each(|plan| delivery.ready(plan.key)),
                Outcome::Bury { key, .. } => {
                    *buried.entry(lane).or_default() += 1;
                    delivery.buried(key);
                }
            }
        }
        now += at(10);
    }
    buried
}

#[test]
fn a_container_whose_records_are_refused_holds_up_no_other() {
    for order in [Order::Strict, Order::Relaxed] {
        let mut delivery = delivery(Rules { planned_max: 64, order, ..rules() }, 3);
        // Two are refused: those that take turns must leave the third its own.
        for (lane, n) in [(0, 300), (1, 200), (2, 20)] {
            push(&mut delivery, lane, n, at(0));
            plan_all(&mut delivery, at(0));
        }
        let refused = |lane| if lane < 2 { Answer::Rejected("status 400".into()) } else { Answer::Accepted };
        let n_buried: u32 = answer_for_an_hour(&mut delivery, refused).values().sum();
        let parts = std::iter::from_fn(|| delivery.poll_retired()).flat_map(|retired| retired.parts);
        let n_accepted: u32 = parts.filter(|part| part.lane == 2).map(|part| part.n).sum();
        assert_eq!((n_accepted, delivery.circuit().state()), (20, CircuitState::Held), "{order:?}, {n_buried}");
        assert!(n_buried > BURIED_IN_A_ROW_MAX, "{order:?}: an acceptance begins the row anew, {n_buried}");
    }
}

#[test]
fn one_container_s_backlog_leaves_room_for_others() {
    let fill = |delivery: &mut Delivery, now| {
        while delivery.wants(0) {
            push(delivery, 0, 10, now);
            plan_all(delivery, now);
        }
    };
    let mut delivery = delivery(Rules { planned_max: 64, queue_bytes: 1 << 20, ..rules() }, 2);
    fill(&mut delivery, at(0));
    assert!(delivery.wants(1));
    push(&mut delivery, 1, 5, at(0));
    answer_for_an_hour(&mut delivery, |lane| match lane {
        0 => Answer::Rejected("status 400".into()),
        _ => Answer::Accepted,
    });
    assert!(delivery.is_lane_idle(1) && !delivery.is_lane_idle(0));
    // What waits for room alone is not due at any time.
    fill(&mut delivery, at(3600));
    push(&mut delivery, 0, 5, at(3600));
    assert!(plan_all(&mut delivery, at(3700)).is_empty() && delivery.poll_send(at(3700)).is_some());
    assert_eq!(delivery.next_due(at(3700)), None);
}

#[test]
fn a_receiver_that_finds_every_record_too_large_is_not_the_records_fault() {
    let mut delivery = delivery(rules(), 1);
    push(&mut delivery, 0, 400, at(0));
    let buried = answer_for_an_hour(&mut delivery, |_| Answer::TooLarge("status 413".into()));
    assert_eq!(buried[&0], BURIED_IN_A_ROW_MAX);
    assert_eq!(delivery.circuit().state(), CircuitState::Held);
}

#[test]
fn nothing_is_due_while_the_one_try_of_a_receiver_that_is_away_is_under_way() {
    for answer in [later(None), Answer::Refused("status 401".into())] {
        let mut delivery = delivery(rules(), 4);
        (0..4).for_each(|lane| push(&mut delivery, lane, 10, at(0)));
        plan_all(&mut delivery, at(0));
        let mut now = at(0);
        while delivery.circuit().state() == CircuitState::Closed {
            now += at(60);
            let (key, _) = delivery.poll_send(now).unwrap();
            delivery.handle_answer(key, answer.clone(), now);
        }
        now += at(60);
        let (key, _) = delivery.poll_send(now).unwrap();
        assert_eq!((delivery.poll_send(now), delivery.next_due(now)), (None, None), "only the answer leads on");
        delivery.handle_answer(key, answer, now);
        assert!(delivery.next_due(now).is_some_and(|due| due > now));
    }
}

#[test]
fn rates_are_kept() {
    let limited = Rules { records_per_second: Some(5), window: 100, planned_max: 32, order: Order::Relaxed, ..rules() };
    let mut delivery = delivery(limited, 1);
    push(&mut delivery, 0, 160, at(0));
    plan_all(&mut delivery, at(0));
    let (mut now, mut n_sent) = (at(0), 0);
    while n_sent < 16 {
        match delivery.poll_send(now) {
            Some((key, _)) => {
                n_sent += 1;
                delivery.handle_answer(key, Answer::Accepted, now);
            }
            None => now = delivery.next_due(now).expect("more is to be sent").max(now + Duration::from_millis(1)),
        }
    }
    assert!((28..33).contains(&now.as_secs()), "160 records at 5/s: {now:?}");
}

#[test]
fn a_drain_doesn_t_wait_for_age() {
    let mut delivery = delivery(rules(), 1);
    push(&mut delivery, 0, 1, at(0));
    assert_eq!(delivery.poll_plan(at(0)), None);
    delivery.drain(at(0));
    assert!(delivery.poll_plan(at(0)).is_some());
}

#[derive(Clone, Debug)]
enum Move {
    Push { lane: u32, n: usize },
    Durable,
    Send,
    Answer { which: usize, kind: u8 },
    Wait { ms: u64 },
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        (0u32..5, 1usize..30).prop_map(|(lane, n)| Move::Push { lane, n }),
        Just(Move::Durable),
        Just(Move::Send),
        (0usize..8, 0u8..10).prop_map(|(which, kind)| Move::Answer { which, kind }),
        (0u64..5_000).prop_map(|ms| Move::Wait { ms }),
    ]
}

/// Drives it as a forwarder would and holds what it does against what it promises.
#[derive(Default)]
struct World {
    pushed: BTreeMap<LaneId, u64>,
    parts: BTreeMap<BatchKey, Vec<Part>>,
    planned: Vec<BatchKey>,
    flying: Vec<BatchKey>,
    /// By lane, the end of what was accepted or buried, where order is kept.
    settled: BTreeMap<LaneId, u64>,
    retired: BTreeMap<LaneId, u64>,
}

impl World {
    fn step(&mut self, delivery: &mut Delivery, step: &Move, now: &mut Duration) {
        match step {
            Move::Push { lane, n } => {
                if delivery.wants(*lane) {
                    push(delivery, *lane, *n, *now);
                    *self.pushed.entry(*lane).or_default() += *n as u64;
                }
            }
            Move::Durable => {
                while let Some(plan) = delivery.poll_plan(*now) {
                    self.planned.push(plan.key);
                    self.parts.insert(plan.key, plan.parts);
                }
                self.planned.drain(..).for_each(|key| delivery.ready(key));
            }
            Move::Send => self.flying.extend(delivery.poll_send(*now).map(|(key, _)| key)),
            Move::Answer { which, kind } if !self.flying.is_empty() => {
                let key = self.flying.remove(which % self.flying.len());
                self.answer(delivery, key, *kind, *now);
            }
            Move::Answer { .. } => {}
            Move::Wait { ms } => *now += Duration::from_millis(*ms),
        }
        assert!(delivery.n_in_flight() == self.flying.len() && self.flying.len() <= 4);
        assert!(delivery.held_bytes() <= 10_000 + 30 * 20, "one read more than the queue at most");
        self.take_retired(delivery);
    }

    fn answer(&mut self, delivery: &mut Delivery, key: BatchKey, kind: u8, now: Duration) {
        let answer = match kind {
            0 => Answer::Rejected("status 400".into()),
            1 => Answer::TooLarge("status 413".into()),
            2 => Answer::Refused("status 403".into()),
            3 => later(Some(1)),
            4 => later(None),
            _ => Answer::Accepted,
        };
        let accepted = answer == Answer::Accepted;
        match delivery.handle_answer(key, answer, now) {
            Outcome::Split { parent, halves } => {
                let together: u64 = halves.iter().flat_map(|plan| &plan.parts).map(|part| u64::from(part.n)).sum();
                assert_eq!(together, self.parts[&parent].iter().map(|part| u64::from(part.n)).sum::<u64>());
                for plan in halves {
                    self.planned.push(plan.key);
                    self.parts.insert(plan.key, plan.parts);
                }
            }
            Outcome::Bury { key, .. } => {
                self.settle(key);
                delivery.buried(key);
            }
            Outcome::Nothing if accepted => self.settle(key),
            Outcome::Nothing => {}
        }
    }

    fn settle(&mut self, key: BatchKey) {
        for part in &self.parts[&key] {
            let settled = self.settled.entry(part.lane).or_default();
            assert_eq!(*settled, part.first, "records of a lane are accepted in order, each once");
            *settled = part.end();
        }
    }

    fn take_retired(&mut self, delivery: &mut Delivery) {
        while let Some(retired) = delivery.poll_retired() {
            for part in retired.parts {
                let end = self.retired.entry(part.lane).or_default();
                assert_eq!(*end, part.first, "a checkpoint advances over a contiguous prefix");
                *end = part.end();
            }
        }
    }
}

proptest! {
    #[test]
    fn every_record_is_accepted_in_order_and_retired_once(moves in proptest::collection::vec(any_move(), 0..300)) {
        let mut delivery = delivery(rules(), 5);
        let mut world = World::default();
        let mut now = at(1);
        for step in &moves {
            world.step(&mut delivery, step, &mut now);
        }
        // Then the receiver is well: all that was pushed is delivered.
        delivery.drain(now);
        for _ in 0..20_000 {
            if delivery.is_empty() {
                break;
            }
            for step in [Move::Durable, Move::Send, Move::Answer { which: 0, kind: 9 }, Move::Wait { ms: 100 }] {
                world.step(&mut delivery, &step, &mut now);
            }
        }
        prop_assert!(delivery.is_empty());
        prop_assert_eq!(delivery.held_bytes(), 0);
        prop_assert_eq!(&world.retired, &world.pushed);
    }
}
