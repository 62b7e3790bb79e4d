//! Rows and lists in Markdown.

use crate::words;

pub(crate) fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = cells.into_iter().collect();
    format!("| {} |", cells.join(" | "))
}

pub(crate) fn head(labels: &[&str], columns: &[&str]) -> [String; 2] {
    let names = labels.iter().chain(columns);
    let rules = labels
        .iter()
        .map(|_| "---")
        .chain(columns.iter().map(|_| "---:"));
    [
        row(names.map(|name| (*name).to_owned())),
        row(rules.map(str::to_owned)),
    ]
}

/// One figure: its name, and for each peer's name how many times as good as that peer we are.
pub(crate) type Compared = (String, Vec<(&'static str, f64)>);

/// A list of the figures in which some peer is better, with these peers.
pub(crate) fn losses(compared: &[Compared]) -> String {
    let lost = compared.iter().filter_map(|(what, ratios)| {
        let lost = ratios.iter().filter(|(_, ratio)| *ratio < 1.0);
        let lost: Vec<_> = lost
            .map(|(peer, ratio)| format!("{peer} {}", words::ratio(*ratio)))
            .collect();
        (!lost.is_empty()).then(|| format!("- {what}: {}", lost.join(", ")))
    });
    let lost: Vec<_> = lost.collect();
    if lost.is_empty() {
        return "None in this run.".to_owned();
    }
    lost.join("\n")
}
