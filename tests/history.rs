//! Records histories of real threads and checks each server-id for linearizability against the sequential
//! model.
//!
//! Runs few rounds by default; `SWITCHBOARD_HISTORY_ROUNDS` sets the number.

mod common;

use std::sync::Barrier;
use std::thread;

use common::call::Call;
use common::game::{Game, Size};
use common::linearizability::{Event, is_linearizable, smallest_window};
use common::model::{MayReclaim, Server};
use common::player::{Dice, Player};

const THREADS: u32 = 3;
const CALLS: usize = 60;

/// A retired slot with a name this long is removed from the index at once. Any other lingers for a while: the
/// next claim of its server-id replaces it, and no removal races with that claim.
const TOO_LONG_TO_LINGER: usize = 1024 + 1;

/// Runs one player per thread, all on the same server-ids.
fn round(game: &Game, seed: u64) -> Vec<Vec<Vec<Event<Call>>>> {
    let barrier = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        let players: Vec<_> = (0..THREADS)
            .map(|thread| {
                let player = Player::new(game, thread, Dice::seeded(seed, thread));
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    player.play(CALLS)
                })
            })
            .collect();
        let ended = players.into_iter().map(|player| player.join().unwrap());
        ended.collect()
    })
}

fn server_ids(round: u64) -> Vec<String> {
    let padding = if round % 16 == 15 {
        TOO_LONG_TO_LINGER
    } else {
        0
    };
    ["a", "b"]
        .map(|name| format!("{round}{name}{}", "-".repeat(padding)))
        .to_vec()
}

#[test]
fn every_history_of_a_server_id_is_linearizable() {
    let rounds = std::env::var("SWITCHBOARD_HISTORY_ROUNDS");
    let rounds: u64 = rounds.map_or(2_000, |rounds| rounds.parse().unwrap());
    let (mut calls, mut overlapping, mut wide_calls) = (0, 0, 0);
    // These registries run with few conn-ids. Every round uses fresh server-ids.
    let mut games: Vec<_> = (0..18)
        .map(|number| Game::sized(number, Size::NARROW, vec![]))
        .collect();
    for seed in 0..rounds {
        let is_wide = seed % 4 == 1;
        let game = if is_wide {
            Game::sized(seed, Size::wide(seed / 4), server_ids(seed))
        } else {
            games.remove(0).next(server_ids(seed))
        };
        let (more, overlapped) = game.check(&round(&game, seed), &format!("round {seed}"));
        calls += more;
        overlapping += overlapped;
        drop(game.registry.drain());
        if is_wide {
            wide_calls += more;
        } else {
            games.push(game);
        }
    }
    println!(
        "{calls} calls, {overlapping} of them overlapping others; {wide_calls} with many phones"
    );
    assert!(
        overlapping > calls / 100,
        "{overlapping} of {calls} calls overlapped: too few races"
    );
}

mod the_checker {
    use super::*;

    fn event(begun: u64, ended: u64, call: Call) -> Event<Call> {
        Event { begun, ended, call }
    }

    fn claim(claim: u32) -> Call {
        Call::Claim {
            claim,
            may_reclaim: MayReclaim::Always,
            result: Ok(None),
        }
    }

    fn explains(threads: &[Vec<Event<Call>>]) -> bool {
        is_linearizable(&Server::default(), threads, |_| true)
    }

    #[test]
    fn accepts_overlapping_calls_in_either_order() {
        let first = event(0, 9, claim(1));
        assert!(explains(&[
            vec![first.clone()],
            vec![event(1, 2, Call::BinaryFor(None))]
        ]));
        assert!(explains(&[
            vec![first],
            vec![event(1, 2, Call::BinaryFor(Some(1)))]
        ]));
    }

    #[test]
    fn rejects_a_stale_read_two_winners_and_a_wrong_final_state() {
        let first = event(0, 1, claim(1));
        let stale = event(2, 3, Call::BinaryFor(None));
        assert!(!explains(&[vec![first.clone()], vec![stale]]));
        let second = event(0, 5, claim(2));
        assert!(!explains(&[vec![first.clone()], vec![second]]));
        assert!(!is_linearizable(
            &Server::default(),
            &[vec![first]],
            Server::is_gone
        ));
    }

    #[test]
    fn shows_the_window_that_is_not_linearizable() {
        let first = event(0, 1, claim(1));
        let stale = event(2, 3, Call::BinaryFor(None));
        let after = event(4, 5, Call::ReleaseServer(true));
        let window = smallest_window(&Server::default(), &[vec![first, after], vec![stale]]);
        assert!(window.starts_with("2 calls"), "{window}");
        assert!(window.contains("BinaryFor(None)") && !window.contains("ReleaseServer"));
    }
}
