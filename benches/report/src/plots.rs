//! The plots, as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cases::{AFTER_CROWDS, CROWDS, LATENCIES, MEMORY, OURS, PEERS};
use crate::figures::Figures;
use crate::summary::{self, Row};
use crate::words;

const SIZE: (u32, u32) = (900, 480);
/// Of that, the width of the peers' names.
const LEGEND: u32 = 190;
const FONT: &str = "sans-serif";
/// Okabe and Ito's colours, which most who see few colours can tell apart. Ours is black.
const COLORS: [RGBColor; PEERS.len()] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What the peer of this name measured at each place of the horizontal axis.
pub(crate) type Lines = Vec<(&'static str, Vec<(f64, f64)>)>;

pub(crate) fn draw(directory: &Path, figures: &Figures) -> Result<()> {
    let sizes = |groups: &[(f64, &str)]| -> Result<Lines> {
        let line = |peer| {
            let points = groups
                .iter()
                .map(|(size, group)| Ok((*size, figures.median(group, peer, 2)?)));
            Ok((peer, points.collect::<Result<_>>()?))
        };
        PEERS.map(line).into_iter().collect()
    };

    let lookups = sizes(&[
        (1.0, "binary_for, 1 server-ids"),
        (1e2, "binary_for, 100 server-ids"),
        (1e4, "binary_for, 10000 server-ids"),
        (1e6, "binary_for, 1000000 server-ids"),
    ])?;
    let axis = Axis {
        name: "server-ids",
        ends: (0.7, 1.4e6),
        label: size,
    };
    plot(
        &directory.join("lookups.svg"),
        "binary_for, 2 threads",
        &axis,
        &lookups,
    )?;

    let changes = sizes(&[
        (1.0, "register + unregister, 1 phones, 100 server-ids"),
        (16.0, "register + unregister, 16 phones, 100 server-ids"),
        (1e3, "register + unregister, 1000 phones, 100 server-ids"),
        (1e5, "register + unregister, 100000 phones, 1 server-ids"),
    ])?;
    let axis = Axis {
        name: "phones of a server-id",
        ends: (0.7, 1.4e5),
        label: size,
    };
    plot(
        &directory.join("changes.svg"),
        "register + unregister, 2 threads",
        &axis,
        &changes,
    )?;

    for (case, file) in LATENCIES
        .iter()
        .zip(["latency-binary.svg", "latency-phones.svg"])
    {
        let line = |peer| {
            let at = figures.latency(case, peer)?;
            let points = [(1e1, at.p50), (1e2, at.p99), (1e3, at.p999)];
            Ok((peer, points.to_vec()))
        };
        let lines = PEERS.map(line).into_iter().collect::<Result<_>>()?;
        let axis = Axis {
            name: "percentile",
            ends: (8.0, 1.25e3),
            label: percentile,
        };
        let title = format!("{} beside a thread that churns", words::case(case));
        plot(&directory.join(file), &title, &axis, &lines)?;
    }
    let after = |peer: &&'static str| {
        let points = CROWDS.map(|threads| {
            let group = format!("register + unregister, after {threads} threads");
            Ok((f64::from(threads), figures.median(&group, peer, 1)?))
        });
        Ok((*peer, points.into_iter().collect::<Result<_>>()?))
    };
    let crowds = AFTER_CROWDS.iter().map(after).collect::<Result<_>>()?;
    let axis = Axis {
        name: "threads that were alive at once before",
        ends: (0.8, 640.0),
        label: size,
    };
    plot(
        &directory.join("crowd.svg"),
        "register + unregister, 1 thread",
        &axis,
        &crowds,
    )?;

    memory(&directory.join("memory.svg"), figures)?;
    summary(&directory.join("summary.svg"), &summary::rows(figures)?)
}

/// Logarithmic, as the time is.
struct Axis {
    name: &'static str,
    ends: (f64, f64),
    label: fn(f64) -> String,
}

fn size(at: f64) -> String {
    words::thousands(&format!("{at:.0}"))
}

/// Each is ten times as rare as the one before, as far as the axis is concerned.
fn percentile(at: f64) -> String {
    match at {
        at if at < 50.0 => "p50",
        at if at < 500.0 => "p99",
        _ => "p99.9",
    }
    .to_owned()
}

fn plot(path: &Path, title: &str, axis: &Axis, lines: &Lines) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    draw_lines(&area, title, axis, lines)
        .map_err(|error| anyhow!("{} can't be drawn: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_lines(area: &Area<'_>, title: &str, axis: &Axis, lines: &Lines) -> Drawn {
    area.fill(&WHITE)?;
    let (area, legend) = area.split_horizontally(SIZE.0 - LEGEND);
    draw_chart(&area, (title, 20), axis, TIME, lines)?;
    draw_legend(&legend, (0, 70), lines)?;
    area.present()?;
    Ok(())
}

/// The name of the vertical axis, and how its values are written.
type Unit = (&'static str, fn(f64) -> String);
const TIME: Unit = ("time (logarithmic)", words::time);

fn draw_chart(
    area: &Area<'_>,
    (title, height): (&str, u32),
    axis: &Axis,
    (unit, label): Unit,
    lines: &Lines,
) -> Drawn {
    let values = || {
        let points = lines.iter().flat_map(|(_, points)| points);
        points.map(|(_, value)| *value)
    };
    let (low, high) = (
        values().fold(f64::MAX, f64::min),
        values().fold(0.0, f64::max),
    );
    let (_, first) = lines.first().ok_or("nothing was measured")?;
    let places = first.iter().map(|(at, _)| *at).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, height))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (axis.ends.0..axis.ends.1)
                .log_scale()
                .with_key_points(places),
            (low / 1.5..high * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(axis.name)
        .x_label_formatter(&|at| (axis.label)(*at))
        .y_desc(unit)
        .y_labels(6)
        .y_label_formatter(&|value| label(*value))
        .label_style((FONT, 14))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (peer, points) in lines {
        let color = color(peer);
        chart.draw_series(LineSeries::new(points.iter().copied(), stroke(peer)))?;
        chart.draw_series(
            points
                .iter()
                .map(|point| Circle::new(*point, 4, color.filled())),
        )?;
    }
    Ok(())
}

fn draw_legend(area: &Area<'_>, (x, y): (i32, i32), lines: &Lines) -> Drawn {
    for (at, (peer, _)) in (0..).zip(lines) {
        let y = y + 26 * at;
        area.draw(&PathElement::new([(x, y), (x + 24, y)], stroke(peer)))?;
        area.draw(&Text::new(*peer, (x + 32, y - 7), (FONT, 15)))?;
    }
    Ok(())
}

fn color(peer: &str) -> RGBColor {
    let colors = PEERS.iter().zip(COLORS);
    let known = colors.into_iter().find(|(known, _)| **known == peer);
    known.map_or(BLACK, |(_, color)| color)
}

fn stroke(peer: &str) -> ShapeStyle {
    color(peer).stroke_width(if peer == OURS { 4 } else { 2 })
}

/// A panel for each title, and the peers' names in the last one.
pub(crate) fn scaling(path: &Path, title: &str, cases: &[(String, Lines)]) -> Result<()> {
    let area = SVGBackend::new(path, (1_200, 1_240)).into_drawing_area();
    draw_panels(&area, title, cases)
        .map_err(|error| anyhow!("{} can't be drawn: {error}", path.display()))
}

fn draw_panels(area: &Area<'_>, title: &str, cases: &[(String, Lines)]) -> Drawn {
    area.fill(&WHITE)?;
    let area = area.titled(title, (FONT, 22))?;
    let panels = area.split_evenly((4, 3));
    let (legend, panels) = panels.split_last().ok_or("there is no place")?;
    let places = cases.iter().flat_map(|(_, lines)| lines);
    let places = places.flat_map(|(_, points)| points.iter().map(|(threads, _)| *threads));
    let axis = Axis {
        name: "threads",
        ends: (0.85, places.fold(1.0, f64::max) * 1.18),
        label: size,
    };
    for (panel, (case, lines)) in panels.iter().zip(cases) {
        let unit = ("calls (logarithmic)", words::rate as fn(f64) -> String);
        draw_chart(panel, (case, 15), &axis, unit, lines)?;
    }
    let (_, lines) = cases.first().ok_or("there are no cases")?;
    draw_legend(legend, (60, 70), lines)?;
    area.present()?;
    Ok(())
}

/// Bars: what a server-id takes, and below it a phone.
fn memory(path: &Path, figures: &Figures) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let bytes = |case| -> Result<Vec<f64>> {
        PEERS
            .iter()
            .map(|peer| Ok(figures.memory(case, peer)?.bytes))
            .collect()
    };
    let bars = MEMORY
        .iter()
        .map(|case| Ok((format!("bytes for each {case}"), bytes(case)?)));
    let bars: Vec<_> = bars.collect::<Result<_>>()?;
    draw_bars(&area, &bars).map_err(|error| anyhow!("{} can't be drawn: {error}", path.display()))
}

fn draw_bars(area: &Area<'_>, bars: &[(String, Vec<f64>)]) -> Drawn {
    const LEFT: i32 = 180;
    const LONGEST: f64 = 600.0;
    area.fill(&WHITE)?;
    for (panel, (title, bytes)) in area.split_evenly((bars.len(), 1)).iter().zip(bars) {
        panel.draw(&Text::new(title.as_str(), (LEFT, 12), (FONT, 20)))?;
        let most = bytes.iter().copied().fold(1.0, f64::max);
        for (((at, peer), bytes), color) in (0..).zip(PEERS).zip(bytes).zip(COLORS) {
            let y = 46 + 30 * at;
            #[expect(clippy::cast_possible_truncation, reason = "a few hundred pixels")]
            let end = LEFT + (bytes / most * LONGEST) as i32;
            panel.draw(&Text::new(peer, (15, y + 3), (FONT, 15)))?;
            panel.draw(&Rectangle::new([(LEFT, y), (end, y + 20)], color.filled()))?;
            panel.draw(&Text::new(
                format!("{bytes:.0}"),
                (end + 8, y + 3),
                (FONT, 15),
            ))?;
        }
    }
    area.present()?;
    Ok(())
}

/// A point for each ratio, on a logarithmic axis. Right of the line at 1 we are faster, or take less.
fn summary(path: &Path, rows: &[Row]) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    draw_ratios(&area, rows).map_err(|error| anyhow!("{} can't be drawn: {error}", path.display()))
}

fn draw_ratios(area: &Area<'_>, rows: &[Row]) -> Drawn {
    const LEFT: i32 = 350;
    const WIDTH: f64 = 510.0;
    const TOP: i32 = 84;
    const STEP: i32 = 34;
    let bottom = TOP + STEP * i32::try_from(rows.len())?;
    let ratios = || rows.iter().flat_map(|row| row.ratios);
    let low = ratios().fold(1.0, f64::min).log10().floor();
    let high = ratios().fold(1.0, f64::max).log10().ceil().max(1.0);
    #[expect(clippy::cast_possible_truncation, reason = "a few hundred pixels")]
    let at = |log: f64| LEFT + ((log - low) / (high - low) * WIDTH) as i32;

    area.fill(&WHITE)?;
    let title = "Time, or memory, of each peer divided by switchboard's, two threads";
    area.draw(&Text::new(title, (15, 14), (FONT, 20)))?;
    let colors = COLORS[1..].iter();
    let peers = || (0..).zip(summary::PEERS).zip(colors.clone());
    for ((peer, name), color) in peers() {
        let x = 30 + 200 * peer;
        area.draw(&Circle::new((x, 54), 5, color.filled()))?;
        area.draw(&Text::new(name, (x + 12, 47), (FONT, 15)))?;
    }
    let mut decade = low;
    while decade <= high {
        let x = at(decade);
        let style = if decade == 0.0 {
            BLACK.stroke_width(2)
        } else {
            RGBColor(210, 210, 210).stroke_width(1)
        };
        area.draw(&PathElement::new([(x, TOP - 12), (x, bottom - 12)], style))?;
        let label = words::thousands(&format!("{}", 10_f64.powf(decade)));
        area.draw(&Text::new(label, (x - 8, bottom - 6), (FONT, 14)))?;
        decade += 1.0;
    }
    area.draw(&Text::new(
        "switchboard loses",
        (LEFT, bottom + 14),
        (FONT, 14),
    ))?;
    area.draw(&Text::new(
        "switchboard wins",
        (at(0.0) + 12, bottom + 14),
        (FONT, 14),
    ))?;
    for (line, row) in (0..).zip(rows) {
        let y = TOP + STEP * line;
        area.draw(&Text::new(row.what, (15, y - 8), (FONT, 14)))?;
        for (((_, _), color), ratio) in peers().zip(row.ratios) {
            area.draw(&Circle::new((at(ratio.log10()), y), 5, color.filled()))?;
        }
    }
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    #[test]
    fn every_plot_that_the_report_shows_is_drawn() {
        let directory = env::temp_dir().join(format!("switchboard-plots-{}", process::id()));
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        draw(&directory, &Figures::of_ones()).expect("every figure is there");
        let shown = include_str!("../../BENCHMARKS.in.md")
            .split("(benches/plots/")
            .skip(1);
        for plot in shown {
            let (file, _) = plot.split_once(')').expect("a link ends");
            assert!(directory.join(file).exists(), "{file} is not drawn");
        }
        fs::remove_dir_all(&directory).expect("this test wrote it");
    }
}
