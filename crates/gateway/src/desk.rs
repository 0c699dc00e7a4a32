//! The call desk: what becomes of the one call that a station has in hand with us.
//!
//! A state machine without I/O or clock, like the core. Received, handed over (attempt 1, 2, …), answered; or, at the
//! deadline, what the class of its action allows. Time and whether a worker names the call are arguments. The contract
//! of use: after each `take` or `handle_*`, do what [`Desk::poll_action`] says until it says nothing, then sleep until
//! [`Desk::poll_timeout`].

use crate::{classes::Class, config::BillingDeadline};
use std::time::{Duration, Instant};

/// What a desk goes by; the same for all connections.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long processing has for an answer.
    pub answer_deadline: Duration,
    /// How often workers say what they have in hand.
    pub beat: Duration,
    /// What becomes of a billing call at the deadline.
    pub billing_deadline: BillingDeadline,
    /// Whether the gateway answers what it can by itself.
    pub local: bool,
    /// Whether there is a journal.
    pub journal: bool,
    /// Whether a call that somebody may have is handed over again: not where they would not know it for a repeat.
    pub repeatable: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish the call in hand, then say how that went with [`Desk::handle_published`].
    HandOver {
        /// 1, 2, …
        attempt: u32,
        /// What is left until the deadline.
        remaining: Duration,
        /// Somebody took an attempt before, and nothing came of it: this one is for a worker that is known to live, if there
        /// is one. The next one is for all again.
        to_one: bool,
    },
    /// Write the call in hand to the journal, then say how that went with [`Desk::handle_journalled`].
    Journal,
    /// The call has ended without an answer of processing; it is not in hand any more.
    End(End),
}

/// How a call ends that processing did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is in the journal: answer with the empty object.
    Journalled,
    /// Answer what the gateway knows by itself.
    Local,
    /// Answer with CALLERROR InternalError.
    Failed,
    /// Do not answer.
    Silence,
    /// Close the connection with 1013.
    Close,
}

/// How an attempt to hand a call over went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Somebody has it, or a broker.
    Taken,
    /// Nobody could take it now.
    Later,
    /// It can never be taken.
    Never,
}

/// Whether a worker has a call in hand, as far as the workers' signs of life say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// One names it.
    Held,
    /// None that is alive does, although each had the time to.
    Lost,
    /// One that might hold it had no time yet to say so. Ask again then.
    Unsure(Instant),
}

/// What the workers say of their calls.
pub trait Presence {
    /// Of the call `seq` of this connection, handed over last at `since`.
    fn holding(&self, seq: u64, since: Instant, now: Instant) -> Holding;
}

/// The call desk of one connection.
#[derive(Debug, Default)]
pub struct Desk {
    hand: Option<Hand>,
    action: Option<Action>,
}

#[derive(Debug)]
struct Hand {
    seq: u64,
    class: Class,
    deadline: Instant,
    attempt: u32,
    /// How many of the attempts since the bus was last away somebody took, and then nothing came of them.
    in_vain: u32,
    /// The last attempt was for one worker.
    to_one: bool,
    pause: Duration,
    /// Somebody had it, or may have it.
    was_taken: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The attempt was given out; how it went is not known.
    HandingOver,
    /// Somebody has it since `since`; at `check` we ask the workers.
    HandedOver { since: Instant, check: Instant },
    /// Nobody could take it; tried again at `until`.
    BackingOff { until: Instant },
    /// It is being written to the journal.
    Journalling,
}

impl Desk {
    /// A desk with nothing in hand.
    #[must_use]
    pub const fn new() -> Self {
        Self { hand: None, action: None }
    }

    /// Takes a call. There is none in hand: the core gives out the next only after the answer (C10).
    ///
    /// `journal_first`: the station has calls in the journal, so that a keepable one must go the same way to stay
    /// behind them.
    pub fn take(
        &mut self,
        seq: u64,
        class: Class,
        journal_first: bool,
        received: Instant,
        now: Instant,
        rules: &Rules,
    ) {
        debug_assert!(self.hand.is_none(), "one call at a time");
        if class == Class::Local && rules.local {
            self.action = Some(Action::End(End::Local));
            return;
        }
        let mut hand = Hand {
            seq,
            class,
            deadline: received + rules.answer_deadline,
            attempt: 0,
            in_vain: 0,
            to_one: false,
            pause: PAUSE_MIN,
            was_taken: false,
            state: State::HandingOver,
        };
        self.action = Some(if journal_first && rules.journal && matches!(class, Class::Keepable { .. }) {
            hand.state = State::Journalling;
            Action::Journal
        } else {
            hand.hand_over(now)
        });
        self.hand = Some(hand);
    }

    /// How handing over went. `patience`: how long an attempt may go without a sign before we ask who has it.
    pub fn handle_published(&mut self, attempt: u32, how: Published, patience: Duration, now: Instant) {
        let Some(hand) = &mut self.hand else { return };
        if hand.attempt != attempt || hand.state != State::HandingOver {
            return;
        }
        match how {
            Published::Taken => {
                hand.was_taken = true;
                // A queue that nobody reads would fill with copies, so each attempt that somebody took waits longer than
                // the one before; never so long that there is no time for another one.
                let left = hand.deadline.saturating_duration_since(now) / 2;
                let wait = (patience * (1 << hand.in_vain.min(3))).min(left.max(patience));
                hand.in_vain += 1;
                hand.state = State::HandedOver { since: now, check: now + wait };
            }
            Published::Later => hand.back_off(now),
            Published::Never => self.end(End::Failed),
        }
    }

    /// The bus says only now that nobody took this attempt of the call `seq`.
    pub fn handle_returned(&mut self, seq: u64, attempt: u32, now: Instant) {
        if let Some(hand) = &mut self.hand
            && hand.seq == seq
            && hand.attempt == attempt
            && matches!(hand.state, State::HandingOver | State::HandedOver { .. })
        {
            if hand.state != State::HandingOver {
                hand.in_vain = hand.in_vain.saturating_sub(1);
            }
            hand.back_off(now);
        }
    }

    /// An answer of processing came. True: it is the call in hand's, which has thereby ended. False: drop it (S10).
    #[must_use]
    pub fn handle_answer(&mut self, seq: u64) -> bool {
        match &self.hand {
            // What is being journalled will be answered from there.
            Some(hand) if hand.seq == seq && hand.state != State::Journalling => {
                self.hand = None;
                self.action = None;
                true
            }
            _ => false,
        }
    }

    /// How writing to the journal went.
    pub fn handle_journalled(&mut self, written: bool, rules: &Rules) {
        let Some(hand) = &self.hand else { return };
        if hand.state != State::Journalling {
            return;
        }
        let end = match hand.class {
            _ if written => End::Journalled,
            Class::Keepable { billing: true } => billing_end(rules),
            _ => End::Failed,
        };
        self.end(end);
    }

    /// The bus is back after it was away: what was handed over before, or is being handed over, may be lost. The result
    /// of an attempt under way is of no interest any more.
    pub fn handle_bus_back(&mut self, now: Instant, rules: &Rules) {
        if let Some(hand) = &mut self.hand
            && hand.state != State::Journalling
            && (rules.repeatable || matches!(hand.state, State::BackingOff { .. }))
            && now < hand.deadline
        {
            hand.pause = PAUSE_MIN;
            hand.in_vain = 0;
            self.action = Some(hand.hand_over(now));
        }
    }

    /// A worker has died, and what it had not named yet may be lost with it. However patient we are otherwise, the workers
    /// are asked now.
    pub fn handle_worker_gone(&mut self, now: Instant, presence: &impl Presence, rules: &Rules) {
        let Some(hand) = &mut self.hand else { return };
        if let State::HandedOver { check, .. } = &mut hand.state {
            *check = now.min(*check);
            self.handle_timeout(now, presence, rules);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant, presence: &impl Presence, rules: &Rules) {
        let Some(hand) = &mut self.hand else { return };
        if hand.state == State::Journalling {
            return;
        }
        if now >= hand.deadline {
            match hand.class {
                // From the journal it would be handed over again.
                Class::Keepable { .. } if rules.journal && (rules.repeatable || !hand.was_taken) => {
                    hand.state = State::Journalling;
                    self.action = Some(Action::Journal);
                }
                Class::Billing | Class::Keepable { billing: true } => self.end(billing_end(rules)),
                Class::Keepable { billing: false } | Class::Local | Class::Other => self.end(End::Failed),
            }
            return;
        }
        match &mut hand.state {
            State::BackingOff { until } if now >= *until => self.action = Some(hand.hand_over(now)),
            State::HandedOver { check, .. } if !rules.repeatable => *check = hand.deadline,
            State::HandedOver { since, check } if now >= *check => {
                match presence.holding(hand.seq, *since, now) {
                    // Half of it, as it may die right after this one.
                    Holding::Held => *check = now + rules.beat / 2,
                    Holding::Unsure(until) => *check = until.max(now + CHECK_MIN),
                    Holding::Lost => {
                        // It was not given back, so somebody was there.
                        hand.pause = PAUSE_MIN;
                        self.action = Some(hand.hand_over(now));
                    }
                }
            }
            _ => {}
        }
    }

    /// What to do now.
    pub const fn poll_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// When to call [`Desk::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let hand = self.hand.as_ref()?;
        match hand.state {
            State::HandingOver => Some(hand.deadline),
            State::HandedOver { check: next, .. } | State::BackingOff { until: next } => {
                Some(next.min(hand.deadline))
            }
            State::Journalling => None,
        }
    }

    /// Which call is in hand.
    #[must_use]
    pub fn in_hand(&self) -> Option<u64> {
        self.hand.as_ref().map(|hand| hand.seq)
    }

    /// Whether the call in hand waits for somebody to take it, or for its answer; then news of the bus matter.
    #[must_use]
    pub fn waits_for_bus(&self) -> bool {
        self.hand.as_ref().is_some_and(|hand| hand.state != State::Journalling)
    }

    fn end(&mut self, end: End) {
        self.hand = None;
        self.action = Some(Action::End(end));
    }
}

impl Hand {
    fn back_off(&mut self, now: Instant) {
        self.state = State::BackingOff { until: now + self.pause };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn hand_over(&mut self, now: Instant) -> Action {
        self.attempt += 1;
        self.state = State::HandingOver;
        self.to_one = self.in_vain > 0 && !self.to_one;
        let remaining = self.deadline.saturating_duration_since(now);
        Action::HandOver { attempt: self.attempt, remaining, to_one: self.to_one }
    }
}

const fn billing_end(rules: &Rules) -> End {
    match rules.billing_deadline {
        BillingDeadline::Close => End::Close,
        BillingDeadline::Silence => End::Silence,
    }
}

/// The first pause when nobody could take a call; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// We never ask the workers more often than this.
const CHECK_MIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    const PATIENCE: Duration = Duration::from_millis(500);
    const KEEPABLE: Class = Class::Keepable { billing: false };
    const KEEPABLE_BILLING: Class = Class::Keepable { billing: true };

    impl<F: Fn(Instant, Instant) -> Holding> Presence for F {
        fn holding(&self, _seq: u64, since: Instant, now: Instant) -> Holding {
            self(since, now)
        }
    }

    fn lost(_: Instant, _: Instant) -> Holding {
        Holding::Lost
    }

    fn rules() -> Rules {
        Rules {
            answer_deadline: Duration::from_secs(25),
            beat: Duration::from_millis(500),
            billing_deadline: BillingDeadline::Close,
            local: false,
            journal: true,
            repeatable: true,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of fake time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn taken(class: Class, start: Instant) -> Desk {
        let mut desk = Desk::new();
        desk.take(7, class, false, start, start, &rules());
        assert_eq!(
            desk.poll_action(),
            Some(Action::HandOver { attempt: 1, remaining: rules().answer_deadline, to_one: false })
        );
        assert_eq!(desk.poll_action(), None);
        desk
    }

    /// Runs time until the desk wants something done; returns that and when.
    fn run(desk: &mut Desk, mut now: Instant, presence: &impl Presence) -> (Action, Instant) {
        loop {
            if let Some(action) = desk.poll_action() {
                return (action, now);
            }
            now = desk.poll_timeout().expect("something is due");
            desk.handle_timeout(now, presence, &rules());
        }
    }

    #[test]
    fn an_answer_ends_the_call_and_a_second_one_is_dropped() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, PATIENCE, start);
        assert!(!desk.handle_answer(6), "another call's");
        assert!(desk.handle_answer(7));
        assert!(!desk.handle_answer(7));
        assert_eq!((desk.poll_action(), desk.poll_timeout(), desk.in_hand()), (None, None, None));
    }

    #[test]
    fn an_answer_may_come_before_the_bus_says_that_it_took_the_call() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        assert!(desk.handle_answer(7));
        desk.handle_published(1, Published::Taken, PATIENCE, start);
        assert_eq!((desk.poll_action(), desk.poll_timeout()), (None, None));
    }

    #[test]
    fn while_nobody_listens_it_is_tried_again_after_50_ms_to_1_s() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for attempt in 1..=8 {
            desk.handle_published(attempt, Published::Later, PATIENCE, now);
            let (action, then) = run(&mut desk, now, &lost);
            let Action::HandOver { attempt: next, remaining, to_one: false } = action else {
                panic!("{action:?}")
            };
            assert_eq!(next, attempt + 1);
            assert_eq!(remaining, rules().answer_deadline - (then - start));
            pauses.push((then - now).as_millis());
            now = then;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn s01_what_somebody_took_in_vain_goes_to_one_worker_and_then_to_all_again() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        let mut now = start;
        let mut attempt = 1;
        let mut step = |desk: &mut Desk, how| {
            match how {
                // It comes back.
                None => {
                    desk.handle_published(attempt, Published::Taken, PATIENCE, now);
                    desk.handle_returned(7, attempt, now);
                }
                Some(how) => desk.handle_published(attempt, how, PATIENCE, now),
            }
            let (action, then) = run(desk, now, &lost);
            let Action::HandOver { attempt: next, to_one, .. } = action else { panic!("{action:?}") };
            (now, attempt) = (then, next);
            to_one
        };
        for how in [Some(Published::Later), None] {
            assert!(!step(&mut desk, how), "nobody has had it yet: {how:?}");
        }
        // The one was frozen too, gone, or had its hands full.
        for how in [Some(Published::Taken), Some(Published::Later), None] {
            assert!(step(&mut desk, Some(Published::Taken)), "before {how:?}");
            assert!(!step(&mut desk, how), "{how:?}");
        }
        assert!(step(&mut desk, Some(Published::Taken)));
        // What was taken before the bus went away says nothing.
        desk.handle_bus_back(now, &rules());
        assert!(matches!(desk.poll_action(), Some(Action::HandOver { to_one: false, .. })));
    }

    #[test]
    fn what_comes_back_is_tried_again_after_50_ms_to_1_s_too() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for attempt in 1..=7 {
            desk.handle_published(attempt, Published::Taken, PATIENCE, now);
            desk.handle_returned(8, attempt, now);
            desk.handle_returned(7, attempt + 1, now);
            desk.handle_returned(7, attempt, now);
            // A second return of one attempt changes nothing.
            desk.handle_returned(7, attempt, now + milliseconds(40));
            let (action, then) = run(&mut desk, now, &lost);
            assert!(
                matches!(action, Action::HandOver { attempt: next, .. } if next == attempt + 1),
                "{action:?}"
            );
            pauses.push((then - now).as_millis());
            now = then;
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        // Somebody had it for a while, and nobody has it now.
        desk.handle_published(8, Published::Taken, PATIENCE, now);
        let (_, now) = run(&mut desk, now, &lost);
        desk.handle_returned(7, 9, now);
        let (_, then) = run(&mut desk, now, &lost);
        assert_eq!((then - now).as_millis(), 50);
    }

    #[test]
    fn where_repeats_are_not_known_a_call_that_somebody_may_have_is_handed_over_once() {
        let start = start();
        let once = Rules { repeatable: false, ..rules() };
        let hand_over = |class| {
            let mut desk = taken(class, start);
            // As long as nobody could take it, it is tried again.
            desk.handle_published(1, Published::Later, PATIENCE, start);
            desk.handle_timeout(start + milliseconds(50), &lost, &once);
            assert!(matches!(desk.poll_action(), Some(Action::HandOver { attempt: 2, .. })));
            desk
        };
        let deadline = start + once.answer_deadline;
        for (class, end) in [
            (KEEPABLE, Action::End(End::Failed)),
            (KEEPABLE_BILLING, Action::End(End::Close)),
            (Class::Other, Action::End(End::Failed)),
        ] {
            let mut desk = hand_over(class);
            desk.handle_published(2, Published::Taken, PATIENCE, start + milliseconds(60));
            for seconds in 1..25 {
                let now = start + Duration::from_secs(seconds);
                desk.handle_timeout(now, &lost, &once);
                desk.handle_bus_back(now, &once);
                assert_eq!(desk.poll_action(), None);
            }
            assert_eq!(desk.poll_timeout(), Some(deadline));
            desk.handle_timeout(deadline, &lost, &once);
            assert_eq!(desk.poll_action(), Some(end), "{class:?}");
        }
        // What nobody ever had may be journalled.
        let mut desk = hand_over(KEEPABLE);
        desk.handle_published(2, Published::Later, PATIENCE, start + milliseconds(60));
        desk.handle_bus_back(start + milliseconds(70), &once);
        assert!(matches!(desk.poll_action(), Some(Action::HandOver { attempt: 3, .. })));
        desk.handle_published(3, Published::Later, PATIENCE, start + milliseconds(80));
        desk.handle_timeout(deadline, &lost, &once);
        assert_eq!(desk.poll_action(), Some(Action::Journal));
    }

    #[test]
    fn s01_an_attempt_that_no_worker_names_is_handed_over_again() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, PATIENCE, start);
        let (action, then) = run(&mut desk, start, &lost);
        assert!(matches!(action, Action::HandOver { attempt: 2, .. }), "{action:?}");
        assert_eq!(then - start, PATIENCE);
    }

    #[test]
    fn s04_attempts_that_nobody_took_do_not_lengthen_the_wait_after_one_that_somebody_took() {
        // A broker has returned: first nobody is there, then somebody is, and what he says gets lost.
        let start = start();
        let patience = Duration::from_secs(3);
        for comes_back in [false, true] {
            let mut desk = taken(Class::Other, start);
            let mut now = start;
            for attempt in 1..=5 {
                if comes_back {
                    desk.handle_published(attempt, Published::Taken, patience, now);
                    desk.handle_returned(7, attempt, now);
                } else {
                    desk.handle_published(attempt, Published::Later, patience, now);
                }
                (_, now) = run(&mut desk, now, &lost);
            }
            let mut waits = Vec::new();
            for attempt in 6..=9 {
                desk.handle_published(attempt, Published::Taken, patience, now);
                let (action, then) = run(&mut desk, now, &lost);
                assert!(matches!(action, Action::HandOver { .. }), "{attempt}: {action:?}");
                waits.push((then - now).as_millis());
                now = then;
            }
            // It began at 1.55 s, and the deadline is at 25 s: there is always time for one more.
            assert_eq!(waits, [3000, 6000, 7225, 3612], "{comes_back}");
        }
    }

    #[test]
    fn a_slow_handler_that_its_worker_names_is_left_in_peace() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, PATIENCE, start);
        let died = start + milliseconds(10_200);
        let presence = |_: Instant, now: Instant| if now < died { Holding::Held } else { Holding::Lost };
        let (action, then) = run(&mut desk, start, &presence);
        assert!(matches!(action, Action::HandOver { attempt: 2, .. }), "{action:?}");
        assert!(then >= died && then - died <= rules().beat, "{:?}", then - died);
    }

    #[test]
    fn s01_a_worker_that_dies_is_found_out_however_patient_we_are() {
        let start = start();
        let patience = Duration::from_secs(5);
        let gone = start + milliseconds(1_100);
        // Nobody has it: at once. Somebody had no time yet to say so: as soon as he had. Somebody has it: not at all.
        let sure = |_: Instant, _: Instant| Holding::Lost;
        let unsure = |_: Instant, now: Instant| {
            if now < gone + milliseconds(125) {
                Holding::Unsure(gone + milliseconds(125))
            } else {
                Holding::Lost
            }
        };
        for (presence, waits) in [(&sure as &dyn Fn(Instant, Instant) -> Holding, 0), (&unsure, 125)] {
            let presence = |since: Instant, now: Instant| presence(since, now);
            let mut desk = taken(Class::Other, start);
            desk.handle_published(1, Published::Taken, patience, start);
            desk.handle_worker_gone(gone, &presence, &rules());
            let (action, then) = run(&mut desk, gone, &presence);
            assert!(matches!(action, Action::HandOver { attempt: 2, .. }), "{action:?}");
            assert_eq!((then - gone).as_millis(), waits);
        }
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, patience, start);
        desk.handle_worker_gone(gone, &|_: Instant, _: Instant| Holding::Held, &rules());
        assert_eq!(desk.poll_action(), None);
        // What is with nobody is not pressed.
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Later, patience, start);
        desk.handle_worker_gone(start, &lost, &rules());
        assert_eq!(desk.poll_action(), None);
        // Nor what only one may ever have.
        let once = Rules { repeatable: false, ..rules() };
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, patience, start);
        desk.handle_worker_gone(gone, &lost, &once);
        assert_eq!(desk.poll_action(), None);
    }

    #[test]
    fn an_unsure_worker_is_asked_again() {
        let start = start();
        let mut desk = taken(Class::Other, start);
        desk.handle_published(1, Published::Taken, PATIENCE, start);
        let asked = Cell::new(0);
        let presence = |_: Instant, now: Instant| {
            asked.set(asked.get() + 1);
            if asked.get() < 4 { Holding::Unsure(now + milliseconds(125)) } else { Holding::Lost }
        };
        let (_, then) = run(&mut desk, start, &presence);
        assert_eq!(then - start, milliseconds(875));
    }

    #[test]
    fn s04_when_the_bus_is_back_the_call_is_handed_over_at_once() {
        let start = start();
        for how in [Published::Later, Published::Taken] {
            let mut desk = taken(Class::Other, start);
            desk.handle_published(1, how, PATIENCE, start);
            desk.handle_bus_back(start + milliseconds(3), &rules());
            assert!(matches!(desk.poll_action(), Some(Action::HandOver { attempt: 2, .. })), "{how:?}");
        }
        // What is under way is given up with the connection that it went over.
        let mut desk = taken(Class::Other, start);
        desk.handle_bus_back(start + milliseconds(3), &rules());
        assert!(matches!(desk.poll_action(), Some(Action::HandOver { attempt: 2, .. })));
        desk.handle_published(1, Published::Never, PATIENCE, start + milliseconds(4));
        assert_eq!(desk.poll_action(), None, "the first attempt's result");
        let mut idle = Desk::new();
        idle.handle_bus_back(start, &rules());
        assert_eq!(idle.poll_action(), None);
    }

    #[test]
    fn s03_at_the_deadline_the_class_decides() {
        let start = start();
        let silence = Rules { billing_deadline: BillingDeadline::Silence, ..rules() };
        let no_journal = Rules { journal: false, ..rules() };
        for (name, class, rules, expected) in [
            ("keepable", KEEPABLE, rules(), Action::Journal),
            ("keepable, billing", KEEPABLE_BILLING, rules(), Action::Journal),
            ("keepable, no journal", KEEPABLE, no_journal.clone(), Action::End(End::Failed)),
            ("keepable, billing, no journal", KEEPABLE_BILLING, no_journal, Action::End(End::Close)),
            ("billing", Class::Billing, rules(), Action::End(End::Close)),
            ("billing, silence", Class::Billing, silence, Action::End(End::Silence)),
            ("other", Class::Other, rules(), Action::End(End::Failed)),
            ("local, not answered here", Class::Local, rules(), Action::End(End::Failed)),
        ] {
            let mut desk = taken(class, start);
            desk.handle_published(1, Published::Taken, PATIENCE, start);
            desk.handle_timeout(start + rules.answer_deadline, &lost, &rules);
            assert_eq!(desk.poll_action(), Some(expected), "{name}");
            assert!(!desk.handle_answer(7), "{name}: it is late");
        }
    }

    #[test]
    fn the_deadline_counts_from_the_receipt_and_holds_while_the_bus_hangs() {
        let start = start();
        let mut desk = Desk::new();
        desk.take(7, Class::Other, false, start, start + milliseconds(5_000), &rules());
        assert_eq!(
            desk.poll_action(),
            Some(Action::HandOver { attempt: 1, remaining: Duration::from_secs(20), to_one: false })
        );
        let (action, then) = run(&mut desk, start + milliseconds(5_000), &lost);
        assert_eq!((action, then - start), (Action::End(End::Failed), Duration::from_secs(25)));
    }

    #[test]
    fn once_journalled_the_later_keepable_calls_go_the_same_way() {
        let start = start();
        let mut desk = Desk::new();
        desk.take(1, KEEPABLE, true, start, start, &rules());
        assert_eq!(desk.poll_action(), Some(Action::Journal));
        desk.handle_journalled(true, &rules());
        assert_eq!(desk.poll_action(), Some(Action::End(End::Journalled)));
        desk.take(2, Class::Other, true, start, start, &rules());
        assert!(matches!(desk.poll_action(), Some(Action::HandOver { .. })), "others overtake");
    }

    #[test]
    fn a_journal_that_takes_nothing_costs_no_billing_message() {
        let start = start();
        for (class, expected) in [(KEEPABLE, End::Failed), (KEEPABLE_BILLING, End::Close)] {
            let mut desk = taken(class, start);
            desk.handle_timeout(start + rules().answer_deadline, &lost, &rules());
            assert_eq!(desk.poll_action(), Some(Action::Journal));
            desk.handle_journalled(false, &rules());
            assert_eq!(desk.poll_action(), Some(Action::End(expected)), "{class:?}");
        }
    }

    #[test]
    fn a_heartbeat_is_answered_here_only_if_the_operator_says_so() {
        let start = start();
        let mut desk = Desk::new();
        desk.take(1, Class::Local, false, start, start, &Rules { local: true, ..rules() });
        assert_eq!(desk.poll_action(), Some(Action::End(End::Local)));
        assert_eq!(desk.in_hand(), None);
        assert_eq!(taken(Class::Local, start).in_hand(), Some(7));
    }

    #[test]
    fn what_the_bus_can_never_carry_fails_at_once() {
        let start = start();
        let mut desk = taken(KEEPABLE, start);
        desk.handle_published(1, Published::Never, PATIENCE, start);
        assert_eq!(desk.poll_action(), Some(Action::End(End::Failed)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(Published),
        StalePublish,
        Answer { offset: u64 },
        Returned { offset: u32 },
        BusBack,
        WorkerGone,
        Journalled(bool),
        Wait(u64),
        WaitUntilDue,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop_oneof![Just(Published::Taken), Just(Published::Later), Just(Published::Never)]
                .prop_map(Step::Publish),
            Just(Step::StalePublish),
            (0..4_u64).prop_map(|offset| Step::Answer { offset }),
            (0..2_u32).prop_map(|offset| Step::Returned { offset }),
            Just(Step::BusBack),
            Just(Step::WorkerGone),
            any::<bool>().prop_map(Step::Journalled),
            (0..8_000_u64).prop_map(Step::Wait),
            Just(Step::WaitUntilDue),
        ]
    }

    fn any_class() -> impl Strategy<Value = Class> {
        prop_oneof![
            Just(KEEPABLE),
            Just(KEEPABLE_BILLING),
            Just(Class::Billing),
            Just(Class::Local),
            Just(Class::Other)
        ]
    }

    proptest! {
        /// Whatever happens: every call ends exactly once and not before its time, attempts count up by one, nothing
        /// is handed over after the end or the deadline, and the desk always knows when it wants to be woken.
        #[test]
        fn every_call_ends_exactly_once(
            calls in prop::collection::vec((any_class(), any::<bool>(), prop::collection::vec(step(), 0..40)), 1..6),
            held in any::<bool>(),
            local in any::<bool>(),
            journal in any::<bool>(),
            silence in any::<bool>(),
        ) {
            let rules = Rules {
                local,
                journal,
                billing_deadline: if silence { BillingDeadline::Silence } else { BillingDeadline::Close },
                ..rules()
            };
            let presence = |_: Instant, now: Instant| {
                if held { Holding::Held } else { Holding::Unsure(now) }
            };
            let mut now = start();
            let mut desk = Desk::new();
            for (index, (class, journal_first, steps)) in calls.into_iter().enumerate() {
                let seq = index as u64 * 10;
                let received = now;
                desk.take(seq, class, journal_first, received, now, &rules);
                let mut attempts = 0;
                let mut before = false;
                let mut ended = false;
                let mut journalling = false;
                let mut steps = steps.into_iter();
                loop {
                    while let Some(action) = desk.poll_action() {
                        prop_assert!(!ended, "after the end: {action:?}");
                        match action {
                            Action::HandOver { attempt, remaining, to_one } => {
                                attempts += 1;
                                prop_assert!(!(to_one && (attempt == 1 || before)), "never twice");
                                before = to_one;
                                prop_assert_eq!(attempt, attempts);
                                prop_assert!(!journalling);
                                prop_assert_eq!(remaining, rules.answer_deadline - (now - received));
                                prop_assert!(!remaining.is_zero());
                            }
                            Action::Journal => {
                                prop_assert!(!journalling && journal);
                                let keepable = matches!(class, Class::Keepable { .. });
                                prop_assert!(keepable);
                                journalling = true;
                            }
                            Action::End(end) => {
                                ended = true;
                                let may = match end {
                                    End::Journalled => journalling,
                                    End::Local => class == Class::Local && local,
                                    End::Close | End::Silence => !matches!(class, Class::Other | Class::Local),
                                    End::Failed => true,
                                };
                                prop_assert!(may, "{class:?} ended with {end:?}");
                            }
                        }
                    }
                    if ended {
                        break;
                    }
                    prop_assert_eq!(desk.in_hand(), Some(seq));
                    match steps.next() {
                        Some(Step::Publish(how)) => desk.handle_published(attempts, how, PATIENCE, now),
                        Some(Step::StalePublish) => {
                            desk.handle_published(attempts + 1, Published::Never, PATIENCE, now);
                        }
                        Some(Step::Answer { offset }) => {
                            let took = desk.handle_answer(seq + offset);
                            prop_assert_eq!(took, offset == 0 && !journalling);
                            ended |= took;
                        }
                        Some(Step::Returned { offset }) => desk.handle_returned(seq, attempts + offset, now),
                        Some(Step::BusBack) => desk.handle_bus_back(now, &rules),
                        Some(Step::WorkerGone) => desk.handle_worker_gone(now, &presence, &rules),
                        Some(Step::Journalled(written)) => desk.handle_journalled(written, &rules),
                        Some(Step::Wait(wait)) => {
                            now += milliseconds(wait);
                            desk.handle_timeout(now, &presence, &rules);
                        }
                        Some(Step::WaitUntilDue) => {
                            if let Some(due) = desk.poll_timeout() {
                                prop_assert!(due > now);
                                now = due;
                                desk.handle_timeout(now, &presence, &rules);
                            }
                        }
                        None if journalling => desk.handle_journalled(true, &rules),
                        None => {
                            // Left alone, it ends by its deadline.
                            let due = desk.poll_timeout().expect("something is due");
                            prop_assert!(due <= received + rules.answer_deadline || due <= now);
                            now = now.max(due);
                            desk.handle_timeout(now, &presence, &rules);
                        }
                    }
                }
            }
        }
    }
}
