//! Checks that the orderings in `src/` are the ones covered by the models and by the argument in
//! IMPLEMENTATION.md.

use real_std::fs;
use real_std::path::Path;
use real_std::sync::atomic::Ordering;

use Ordering::{Acquire, Relaxed, Release, SeqCst};

use crate::models::{DRAW_OF_ARMING, READ_OF_ARMING, SEEN};

/// Every ordering in `src/`: the file, the call, and the ordering. Change a model before changing this.
const ORDERINGS: [(&str, &str, Ordering); 21] = [
    ("membership.rs", "self.seen.load", SEEN),
    ("membership.rs", "self.seen.store", SEEN),
    ("store/audience.rs", "self.0.fetch_add", SeqCst),
    ("store/audience.rs", "fence", SeqCst),
    // The last one to leave misses nothing: nobody waits for what comes after it.
    ("store/audience.rs", "self.0.fetch_sub", SeqCst),
    ("store/audience.rs", "self.0.load", SeqCst),
    ("store/counts.rs", "counter.fetch_add", Relaxed),
    ("store/counts.rs", ".load", Relaxed),
    ("store/deadlines.rs", "self.scans.load", SeqCst),
    ("store/deadlines.rs", "self.scans.fetch_add", SeqCst),
    ("store/deadlines.rs", "self.scans.fetch_sub", SeqCst),
    ("store/epochs.rs", "NEXT.fetch_add", SeqCst),
    // On x86 and elsewhere.
    ("store/fence.rs", "compiler_fence", SeqCst),
    ("store/fence.rs", "fence", SeqCst),
    ("store/ledger.rs", "self.armings.load", READ_OF_ARMING),
    ("store/ledger.rs", "self.armings.fetch_add", DRAW_OF_ARMING),
    // Whoever reads this number has seen its draw happen. So the next slot of the server-id draws a larger
    // one.
    // No model: in loom, every draw reads the latest number in any case.
    ("store/slot.rs", "self.since.load", Acquire),
    ("store/slot.rs", "since.compare_exchange", Release),
    ("store/slot.rs", "since.compare_exchange", Acquire),
    ("store/striped.rs", "NEXT.fetch_add", Relaxed),
    // The switch point of the schedules, compiled only for them.
    ("store/switch_point.rs", ".load", SeqCst),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// All files of a folder and its subfolders, with their paths relative to it.
fn sources(folder: &Path, within: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{within}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            sources.extend(self::sources(&entry.path(), &format!("{name}/")));
        } else {
            sources.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
    sources.sort();
    sources
}

/// The source without comments and imports.
fn code(source: &str) -> String {
    let lines = source.lines().map(|line| line.split("//").next().unwrap());
    let lines = lines.filter(|line| !line.trim_start().starts_with("use "));
    lines.collect::<Vec<_>>().join("\n")
}

/// The call, as far as it is a path, whose argument list is open at the end of `before`.
fn call(before: &str) -> &str {
    let mut closed = 0;
    let is_open = |c: char| {
        closed += match c {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        closed < 0
    };
    let callee = &before[..before.rfind(is_open).unwrap()];
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let start = callee.trim_end_matches(is_path).len();
    &callee[start..]
}

fn orderings(source: &str) -> Vec<(String, String)> {
    let code = code(source);
    let uses = code.match_indices("Ordering::");
    let uses = uses.map(|(at, prefix)| {
        let ordering = &code[at + prefix.len()..];
        let end = ordering.find(|c: char| !c.is_alphanumeric()).unwrap();
        (call(&code[..at]).to_owned(), ordering[..end].to_owned())
    });
    uses.collect()
}

#[test]
fn every_ordering_in_the_sources_is_covered_by_the_models() {
    let mut found = Vec::new();
    for (file, source) in sources(&root().join("src"), "") {
        let more = orderings(&source);
        let words = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
        let code = code(&source);
        let is_word = |word: &&str| words.contains(word);
        let named = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert_eq!(
            named.filter(is_word).count(),
            more.len(),
            "{file} names an ordering in a form that this test does not parse"
        );
        found.extend(
            more.into_iter()
                .map(|(call, ordering)| (file.clone(), call, ordering)),
        );
    }
    let known = ORDERINGS
        .map(|(file, call, ordering)| (file.to_owned(), call.to_owned(), format!("{ordering:?}")));
    assert_eq!(
        found, known,
        "left: the sources; right: the models. See tests/orderings/models.rs and IMPLEMENTATION.md"
    );
}

/// The order of lookups by key rests on the internals of these crates.
#[test]
fn the_argument_was_written_for_these_versions() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for (name, version) in [
        ("arc-swap", "1.9.5"),
        ("papaya", "0.2.5"),
        ("seize", "0.5.1"),
    ] {
        let line = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(
            lock.contains(&line),
            "{name} is no longer {version}: check \"Why each ordering suffices\" in IMPLEMENTATION.md against the new version"
        );
    }
}
