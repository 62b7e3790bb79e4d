//! Two threads whose calls and whose schedule both come from the input. The sequential model must explain
//! their results.
//!
//! The target runs under shuttle, so an input always runs the same way and the fuzzer learns which switches
//! matter. AddressSanitizer makes shuttle's stacks thirty times slower; other runs check memory:
//!
//! `cargo +nightly fuzz run --sanitizer none interleave -- -max_total_time=60`
#![no_main]

extern crate switchboard_under_shuttle as switchboard;

#[path = "../../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arbitrary::Arbitrary;
use common::game::{Game, Size};
use common::player::{Dice, Player};
use libfuzzer_sys::fuzz_target;
use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, Runner, thread};

#[derive(Arbitrary, Clone, Debug)]
struct Input {
    registry: u8,
    rolls: [Vec<u8>; 2],
    turns: Vec<u8>,
}

/// Runs the schedule of the input. Each byte is the number of steps that a thread takes before another one
/// runs. After the last byte, the threads run to their end.
struct Written {
    turns: std::vec::IntoIter<u8>,
    /// The steps left in this turn.
    left: Option<u8>,
    begun: bool,
    /// Set when the race begins. Registering many phones before it uses up no turns.
    counts: Arc<AtomicBool>,
}

/// A call takes three to ten steps.
const LONGEST_TURN: u8 = 16;

impl Written {
    fn new(turns: Vec<u8>, counts: Arc<AtomicBool>) -> Self {
        let mut written = Self {
            turns: turns.into_iter(),
            left: None,
            begun: false,
            counts,
        };
        written.next_turn();
        written
    }

    fn next_turn(&mut self) {
        self.left = self.turns.next().map(|steps| steps % LONGEST_TURN);
    }
}

impl Scheduler for Written {
    fn new_execution(&mut self) -> Option<Schedule> {
        (!std::mem::replace(&mut self.begun, true)).then(|| Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        _is_yielding: bool,
    ) -> Option<TaskId> {
        let ids = || runnable.iter().map(|task| task.id());
        let others = ids().find(|id| Some(*id) != current);
        let current = ids().find(|id| Some(*id) == current);
        if !self.counts.load(Relaxed) {
            return current.or(others);
        }
        match &mut self.left {
            Some(0) => {
                self.next_turn();
                others.or(current)
            }
            Some(steps) => {
                *steps -= 1;
                current.or(others)
            }
            None => current.or(others),
        }
    }

    fn next_u64(&mut self) -> u64 {
        0
    }
}

/// Some inputs start with many phones.
fn size(registry: u8) -> Size {
    match registry {
        0x70..0x90 => Size::wide(u64::from(registry / 2)),
        _ => Size::NARROW,
    }
}

fuzz_target!(|input: Input| {
    let size = size(input.registry);
    let counts = Arc::new(AtomicBool::new(size == Size::NARROW));
    let scheduler = Written::new(input.turns.clone(), Arc::clone(&counts));
    let mut config = Config::new();
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        let mut server_ids = vec!["a".to_owned(), "b".to_owned()];
        server_ids.truncate(1 + usize::from(input.registry % 2));
        let number = u64::from(input.registry / 2);
        let game = Arc::new(Game::sized(number, size, server_ids));
        counts.store(true, Relaxed);
        let players: Vec<_> = (0..)
            .zip(input.rolls.clone())
            .map(|(number, rolls)| {
                let game = Arc::clone(&game);
                thread::spawn(move || {
                    let dice = Dice::Written(rolls.into_iter());
                    Player::new(&game, number, dice).play(usize::MAX)
                })
            })
            .collect();
        let histories: Vec<_> = players
            .into_iter()
            .map(|player| player.join().unwrap())
            .collect();
        game.check(&histories, "the input");
        game.assert_at_rest();
    });
});
