//! Whether to look out for a client's next input or to sleep until it comes.
//!
//! A client that publishes one message at a time to a stream in memory, or asks one question after the other, sends the
//! next as soon as it has read the answer. A thread that goes to sleep in between must be woken, which takes longer than
//! all else the message costs. So the task of a client that has been quick several times in a row has itself polled again
//! for a short while after it has answered; other tasks of its thread have their turns meanwhile. This goes on for as long
//! as it is worth it: while what comes is there soon.

/// How long after an answer the next input is looked out for, and what counts as quick of a client that was slept for.
const LOOK_NS: u64 = 100_000;

/// The average time of a look beyond which sleeping is the better bargain. Waking each other takes a client and a thread
/// 50 to 70 µs, and no core is kept busy by that.
const WORTH_NS: u64 = 60_000;

/// What is taken for the average at first.
const FIRST_NS: u32 = 20_000;

/// Times that a client must have been quick before it is looked out for, at least, and after looks that were not worth it.
const QUICK_MIN: u16 = 8;
const QUICK_MAX: u16 = 1024;

/// Inputs after which looking is taken to have been worth it, however it ends.
const MET_MIN: u16 = 64;

/// See [`may_await_answer`].
const INPUT_BYTES_MAX: usize = 4096;

/// See the module. Times are those of the server's clock.
#[derive(Debug)]
pub(crate) struct Lookout {
    /// When the client was answered; 0 while it is not known to wait for that.
    answered_ns: u64,
    state: State,
    /// How many times in a row the client must be quick next.
    quick_needed: u16,
}

#[derive(Debug)]
enum State {
    /// The client has been quick so many times in a row.
    Sleeping { quick: u16 },
    /// What a look takes on average, and how many inputs there have been since the first.
    Looking { average_ns: u32, met: u16 },
}

/// Whether so much input at a time may come from somebody who waits for the answer before sending more.
pub(crate) fn may_await_answer(input_bytes: usize) -> bool {
    input_bytes <= INPUT_BYTES_MAX
}

impl Lookout {
    pub(crate) fn new() -> Self {
        Self { answered_ns: 0, state: State::Sleeping { quick: 0 }, quick_needed: QUICK_MIN }
    }

    /// Input has come and was carried out; `answered` is whether it brought the client something that it may have waited
    /// for.
    pub(crate) fn on_input(&mut self, answered: bool, now_ns: u64) {
        if self.answered_ns != 0 {
            self.weigh(now_ns.saturating_sub(self.answered_ns));
        }
        self.answered_ns = if answered { now_ns } else { 0 };
    }

    /// There is no input: whether to look again at once.
    pub(crate) fn looks_again(&self, now_ns: u64) -> bool {
        self.answered_ns != 0
            && matches!(self.state, State::Looking { .. })
            && now_ns.saturating_sub(self.answered_ns) < LOOK_NS
    }

    /// The client sent its next input so long after it was answered.
    fn weigh(&mut self, gap_ns: u64) {
        self.state = match self.state {
            State::Sleeping { .. } if gap_ns > LOOK_NS => State::Sleeping { quick: 0 },
            State::Sleeping { quick } if quick + 1 < self.quick_needed => {
                State::Sleeping { quick: quick + 1 }
            }
            State::Sleeping { .. } => State::Looking { average_ns: FIRST_NS, met: 0 },
            State::Looking { average_ns, met } => {
                let average_ns = (u64::from(average_ns) * 7 + gap_ns.min(LOOK_NS)) / 8;
                let met = met.saturating_add(1);
                if average_ns <= WORTH_NS {
                    State::Looking { average_ns: average_ns as u32, met }
                } else {
                    let longer = (self.quick_needed * 2).min(QUICK_MAX);
                    self.quick_needed = if met < MET_MIN { longer } else { QUICK_MIN };
                    State::Sleeping { quick: 0 }
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of a client's inputs.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Played {
        /// Looked out for, and there before the look was over.
        met: u32,
        /// Looked out for in vain.
        missed: u32,
        /// Microseconds of looking.
        looked_us: u32,
    }

    /// A client, and the hour.
    struct Player {
        lookout: Lookout,
        now_ns: u64,
        answered: bool,
    }

    impl Player {
        fn new() -> Self {
            Self { lookout: Lookout::new(), now_ns: 1, answered: true }
        }

        /// The client sends so long after each answer, all of that so many times. A look takes a microsecond, being
        /// woken thirty.
        fn play(&mut self, gaps_us: &[u64], times: usize) -> Played {
            let mut played = Played::default();
            for gap_us in gaps_us.repeat(times) {
                let begun_ns = self.now_ns;
                let due_ns = begun_ns + gap_us * 1000;
                while self.now_ns < due_ns && self.lookout.looks_again(self.now_ns) {
                    self.now_ns += 1000;
                    played.looked_us += 1;
                }
                if self.now_ns < due_ns {
                    played.missed += u32::from(self.now_ns > begun_ns);
                    self.now_ns = due_ns + 30_000;
                } else {
                    played.met += 1;
                }
                self.lookout.on_input(self.answered, self.now_ns);
            }
            played
        }
    }

    #[test]
    fn a_client_that_was_quick_several_times_is_looked_out_for() {
        let mut player = Player::new();
        assert_eq!(player.play(&[20], 100), Played { met: 91, missed: 0, looked_us: 91 * 20 });
        assert_eq!(player.play(&[20], 100), Played { met: 100, missed: 0, looked_us: 100 * 20 });
    }

    #[test]
    fn nobody_is_looked_out_for_who_pauses_or_is_not_answered() {
        let never = Played::default();
        assert_eq!(Player::new().play(&[80], 10_000), never);
        let mut not_answered = Player { answered: false, ..Player::new() };
        assert_eq!(not_answered.play(&[20], 10_000), never);
    }

    #[test]
    fn a_pause_now_and_then_costs_one_look() {
        let mut player = Player::new();
        player.play(&[20], 100);
        let mut gaps_us = [20; 101];
        gaps_us[100] = 5000;
        let played = player.play(&gaps_us, 10);
        assert_eq!(played, Played { met: 1000, missed: 10, looked_us: 1000 * 20 + 10 * 100 });
    }

    #[test]
    fn looks_that_are_not_worth_it_become_rare() {
        let mut player = Player::new();
        // Quick enough when it is slept for, too slow to be looked out for.
        assert_eq!(player.play(&[65], 10_000), Played { met: 255, missed: 0, looked_us: 255 * 65 });
        assert_eq!(player.lookout.quick_needed, QUICK_MAX);
        // A client that has become quick is trusted again.
        let played = player.play(&[20], 10_000);
        assert!(played.met >= 10_000 - u32::from(QUICK_MAX) && played.missed == 0, "{played:?}");
        player.play(&[65], 25);
        assert_eq!(player.lookout.quick_needed, QUICK_MIN);
    }

    #[test]
    fn pauses_end_it() {
        let mut player = Player::new();
        player.play(&[20], 100);
        assert_eq!(player.play(&[5000], 10_000), Played { met: 0, missed: 6, looked_us: 600 });
    }
}
