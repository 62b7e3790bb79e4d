//! Histories of real threads, checked for linearizability: each server-id against the sequential model.
//!
//! The number of rounds is small here; `SWITCHBOARD_HISTORY_ROUNDS` asks for more.

mod common;

use std::sync::Barrier;
use std::thread;

use common::Wire;
use common::linear::{Event, is_linearizable, smallest_window};
use common::model::Server;
use common::player::{Call, MAX_PHONES, Player, Shared, look};
use switchboard::Registry;

const THREADS: u32 = 3;
const CALLS: usize = 40;

/// One round: all threads play on a server-id that nobody has used before.
fn round(registry: &Registry<Wire>, server_id: &str, seed: u64) -> (Vec<Vec<Event<Call>>>, Server) {
    let shared = Shared::default();
    let barrier = Barrier::new(THREADS as usize);
    let histories = thread::scope(|scope| {
        let players: Vec<_> = (0..THREADS)
            .map(|thread| {
                let player = Player::new(registry, server_id, &shared, thread, seed);
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    player.play(CALLS)
                })
            })
            .collect();
        let ended = players.into_iter().map(|player| player.join().unwrap());
        ended.collect()
    });
    (histories, look(registry, server_id))
}

#[test]
fn every_history_of_a_server_id_can_be_explained_one_call_after_the_other() {
    let rounds = std::env::var("SWITCHBOARD_HISTORY_ROUNDS");
    let rounds: u64 = rounds.map_or(3_000, |rounds| rounds.parse().unwrap());
    let registry: Registry<Wire> = Registry::builder().max_phones(MAX_PHONES).build();
    let (mut calls, mut overlapping) = (0, 0);
    for seed in 0..rounds {
        let server_id = format!("s{seed}");
        let (histories, last) = round(&registry, &server_id, seed);
        let explained = is_linearizable(&Server::default(), &histories, |end| *end == last);
        assert!(
            explained,
            "round {seed}, which ended in {last:?}, cannot be explained: {}",
            smallest_window(&Server::default(), &histories),
        );
        let events = || histories.iter().flatten();
        calls += events().count();
        // A call that nobody else's tick came into did not overlap with any.
        overlapping += events()
            .filter(|event| event.ended > event.begun + 1)
            .count();
        drop(registry.evict_server(&server_id));
    }
    println!("{calls} calls, {overlapping} of them overlapped with others");
    assert!(
        overlapping > calls / 100,
        "{overlapping} of {calls}: nothing was raced"
    );
}

mod the_checker {
    use super::*;

    fn event(begun: u64, ended: u64, call: Call) -> Event<Call> {
        Event { begun, ended, call }
    }

    fn explains(threads: &[Vec<Event<Call>>]) -> bool {
        is_linearizable(&Server::default(), threads, |_| true)
    }

    #[test]
    fn accepts_what_overlaps_in_some_order() {
        let claim = event(
            0,
            9,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        assert!(explains(&[
            vec![claim.clone()],
            vec![event(1, 2, Call::BinaryFor(None))]
        ]));
        assert!(explains(&[
            vec![claim],
            vec![event(1, 2, Call::BinaryFor(Some(1)))]
        ]));
    }

    #[test]
    fn refuses_a_stale_read_two_winners_and_a_wrong_end() {
        let claim = event(
            0,
            1,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        let stale = event(2, 3, Call::BinaryFor(None));
        assert!(!explains(&[vec![claim.clone()], vec![stale]]));
        let second = event(
            0,
            5,
            Call::Claim {
                claim: 2,
                result: Ok(None),
            },
        );
        assert!(!explains(&[vec![claim.clone()], vec![second]]));
        assert!(!is_linearizable(
            &Server::default(),
            &[vec![claim]],
            Server::is_gone
        ));
    }

    #[test]
    fn shows_the_window_that_cannot_be_explained() {
        let claim = event(
            0,
            1,
            Call::Claim {
                claim: 1,
                result: Ok(None),
            },
        );
        let stale = event(2, 3, Call::BinaryFor(None));
        let after = event(4, 5, Call::ReleaseServer(true));
        let window = smallest_window(&Server::default(), &[vec![claim, after], vec![stale]]);
        assert!(window.starts_with("2 calls"), "{window}");
        assert!(window.contains("BinaryFor(None)") && !window.contains("ReleaseServer"));
    }
}
