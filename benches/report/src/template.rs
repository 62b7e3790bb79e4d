//! The prose, and what is put in its places: `{{summary}}`, `{{ratios}}`, `{{losses lookups}}`, `{{median GROUP | PEER | THREADS}}`,
//! `{{relay-figure RUN | KEY}}`, `{{relay-table NAME}}`.

use anyhow::{Context, Result, bail};

use crate::cases::OURS;
use crate::figures::Figures;
use crate::{machine, summary, tables, words};

pub(crate) fn fill(template: &str, figures: &Figures) -> Result<String> {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, after) = after
            .split_once("}}")
            .context("a place in the template is not closed")?;
        let value =
            value(place, figures).with_context(|| format!("in the template's {{{{{place}}}}}"))?;
        filled.extend([before, &value]);
        rest = after;
    }
    Ok(filled + rest)
}

fn value(place: &str, figures: &Figures) -> Result<String> {
    let (kind, argument) = place.split_once(' ').unwrap_or((place, ""));
    match kind {
        "machine" => machine::describe(&figures.commit, figures.quick),
        "summary" => summary::table(figures),
        "ratios" => tables::ratios(figures),
        "losses" => tables::losses(figures, argument),
        "medians" => tables::medians(figures),
        "latencies" => tables::latencies(figures),
        "memory" => tables::memory(figures),
        "floors" => tables::floors(figures),
        "count" => Ok(words::thousands(&figures.count.to_string())),
        "median" => {
            let (group, peer, threads) = arguments(argument)?;
            Ok(words::time(figures.median(group, peer, threads)?))
        }
        "relay-commit" => Ok(figures.relay.commit.clone()),
        "relay-node" => Ok(figures.relay.node()),
        "relay-losses" => figures.relay.losses(),
        "relay-table" => figures.relay.table(argument),
        "relay-figure" => {
            let (run, key) = argument.split_once('|').context("it wants run | key")?;
            figures.relay.figure(run.trim(), key.trim())
        }
        "ratio" => {
            let (group, peer, threads) = arguments(argument)?;
            let ours = figures.median(group, OURS, threads)?;
            Ok(words::ratio(figures.median(group, peer, threads)? / ours))
        }
        _ => bail!("nothing is known by that name"),
    }
}

fn arguments(argument: &str) -> Result<(&str, &str, usize)> {
    let parts: Vec<_> = argument.split('|').map(str::trim).collect();
    let [group, peer, threads] = parts[..] else {
        bail!("it wants group | peer | threads");
    };
    Ok((
        group,
        peer,
        threads.parse().context("the number of threads")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_names_only_what_a_run_measures() {
        let template = include_str!("../../BENCHMARKS.in.md");
        let report = fill(template, &Figures::of_ones()).expect("every name is known");
        assert!(!report.contains("{{"));
        let rows = report
            .lines()
            .filter(|line| line.contains("| 1.00 | 1.00 | 1.00 |"));
        assert!(rows.count() > 10);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        let error = fill("before {{speed}} after", &Figures::of_ones()).expect_err("no such name");
        assert!(error.to_string().contains("{{speed}}"), "{error}");
    }
}
