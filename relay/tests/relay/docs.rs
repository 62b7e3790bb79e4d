//! `README.md` agrees with the program.

use clap::CommandFactory;
use switchboard_relay::Config;

use crate::common::{Relay, http, within};

const README: &str = include_str!("../../README.md");

#[test]
fn every_flag_is_in_the_readme_with_its_default() {
    let rows: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .collect();
    let mut flags = 0;
    for flag in Config::command().get_arguments() {
        let Some(name) = flag.get_long() else {
            continue;
        };
        let row = rows.iter().find(|row| row.contains(&format!("`--{name} ")));
        let row = row.unwrap_or_else(|| panic!("--{name} is missing"));
        let variable = format!("SWITCHBOARD_{}", name.replace('-', "_").to_uppercase());
        // These are no settings.
        if !["check-health", "generate"].contains(&name) {
            assert_eq!(flag.get_env(), Some(variable.as_ref()), "--{name}");
        }
        for default in flag.get_default_values() {
            let default = default.to_str().expect("UTF-8");
            let default = if default.is_empty() {
                "none"
            } else {
                &format!("`{default}`")
            };
            assert!(row.contains(&format!("| {default} |")), "{row}");
        }
        flags += 1;
    }
    assert!(flags >= 19, "{flags}");
}

#[tokio::test]
async fn every_series_is_in_the_readme_with_its_labels() {
    within(async {
        let relay = Relay::start().await;
        let answer = http(relay.metrics, "GET /metrics HTTP/1.1", b"").await;
        let samples: Vec<&str> = answer
            .body()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(samples.len() > 40, "{}", answer.body());
        for sample in samples {
            let (series, _) = sample.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let row = README
                .lines()
                .find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("{name} is missing"));
            for (key, value) in labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|label| label.split_once('='))
            {
                assert!(row.contains(&format!("`{key}`")), "{sample}: {row}");
                // The README lists values only where a label first occurs.
                let value = value.trim_matches('"');
                let known = README.contains(&format!("`{value}`")) || key == "version";
                assert!(known, "{sample}");
            }
        }
    })
    .await;
}
