//! A list of server-ids: exact names, and patterns with `*` and `?`.

use std::collections::HashSet;
use std::fmt::{self, Formatter};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use wildmatch::WildMatch;

/// Server-ids. Both kinds of entries stand for whole server-ids and distinguish upper and lower case.
#[derive(Debug, Deserialize)]
#[serde(from = "Vec<Entry>")]
pub(super) struct Names {
    exact: HashSet<String>,
    patterns: Vec<WildMatch>,
}

impl Names {
    pub(super) fn contain(&self, server_id: &str) -> bool {
        let matches = |pattern: &WildMatch| pattern.matches(server_id);
        self.exact.contains(server_id) || self.patterns.iter().any(matches)
    }

    pub(super) fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }
}

impl From<Vec<Entry>> for Names {
    fn from(entries: Vec<Entry>) -> Self {
        let entries = entries.into_iter().map(|Entry(text)| text);
        let (patterns, exact): (Vec<_>, _) = entries.partition(|text| text.contains(['*', '?']));
        Self {
            exact: exact.into_iter().collect(),
            patterns: patterns.iter().map(|text| WildMatch::new(text)).collect(),
        }
    }
}

/// One name or pattern, as the file has it. What no server-id can match is refused: in a list of denied ones it would
/// have no effect.
struct Entry(String);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error of a visitor has the place of the entry, and not of the list.
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Entry;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("a server-id or a pattern, as a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
        if text.is_empty() {
            Err(E::custom("a server-id is not empty"))
        } else if text.trim_ascii() != text {
            Err(E::custom("a server-id has no white space around it"))
        } else {
            Ok(Entry(text.to_owned()))
        }
    }
}
