//! The timeline above the audit log: how much happened when, drawn on the server.

use std::time::Duration;

use crate::{
    domain::time::Moment,
    store::ledger::{Filter, Tally},
};

/// Bars of a timeline.
pub(super) const BARS: i64 = 48;
/// What is shown when nothing else is asked for.
const USUAL: Duration = Duration::from_hours(24);
const WIDTH: i64 = 960;
const HEIGHT: i64 = 88;

/// A bar: how many entries went well, and how many did not, as pieces of a drawing.
pub(super) struct Bar {
    pub(super) x: i64,
    pub(super) width: i64,
    /// Top and height of the piece for what went well.
    pub(super) good: (i64, i64),
    /// The same for what failed or was denied.
    pub(super) bad: (i64, i64),
    /// What it says when somebody points at it.
    pub(super) says: String,
}

/// The timeline.
pub(super) struct Chart {
    pub(super) bars: Vec<Bar>,
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) from: String,
    pub(super) to: String,
    /// In words, for whoever does not see the drawing.
    pub(super) summary: String,
}

/// The stretch of time that a filter's timeline shows.
pub(super) fn span(filter: &Filter, now: Moment) -> (Moment, Moment) {
    // Up to and with the present millisecond.
    let end = filter.end.unwrap_or(now.plus(Duration::from_millis(1)));
    (filter.start.unwrap_or(end.minus(USUAL)), end)
}

/// How long a bar is, at least a second.
pub(super) fn bar_width((start, end): (Moment, Moment)) -> i64 {
    (end.millis().saturating_sub(start.millis()) / BARS + 1).max(1000)
}

/// Draws the counts, of which there are `most` at most.
pub(super) fn draw(tallies: &[Tally], span: (Moment, Moment), most: i64) -> Chart {
    let width = bar_width(span);
    let count = |bar: i64, bad: bool| -> i64 {
        tallies.iter().filter(|t| t.bar == bar && (t.outcome != "success") == bad).map(|t| t.entries).sum()
    };
    let highest = (0..BARS).map(|bar| count(bar, false) + count(bar, true)).max().unwrap_or(0).max(1);
    // What is there is seen, however little it is beside the rest.
    let tall = |entries: i64| if entries == 0 { 0 } else { (entries * HEIGHT / highest).max(2) };
    let step = WIDTH / BARS;
    let bar = |bar: i64| {
        let (good, bad) = (count(bar, false), count(bar, true));
        let (good_height, bad_height) = (tall(good), tall(bad).min(HEIGHT));
        let start = Moment::from_millis(span.0.millis() + bar * width);
        Bar {
            x: bar * step,
            width: step - 3,
            bad: ((HEIGHT - good_height - bad_height).max(0), bad_height),
            good: (HEIGHT - good_height, good_height),
            says: format!("{}: {good} went well, {bad} did not", start.for_people()),
        }
    };
    let sum = |bad| (0..BARS).map(|bar| count(bar, bad)).sum::<i64>();
    let (good, bad) = (sum(false), sum(true));
    let all = good + bad;
    let bound = if all >= most { format!(" (the latest {most})") } else { String::new() };
    Chart {
        bars: (0..BARS).map(bar).filter(|bar| bar.good.1 + bar.bad.1 > 0).collect(),
        width: WIDTH,
        height: HEIGHT,
        from: span.0.for_people(),
        to: span.1.for_people(),
        summary: format!("{all} entries{bound}: {good} went well, {bad} failed or were denied"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_drawn_in_bars_that_say_what_they_count() {
        let now = Moment::from_seconds(1_800_000_000);
        let span = span(&Filter::default(), now);
        assert_eq!(span.1.since(span.0), USUAL);
        let tally = |bar, outcome: &str, entries| Tally { bar, outcome: outcome.into(), entries };
        let tallies = [tally(0, "success", 100), tally(0, "denied", 1), tally(47, "success", 1)];
        let chart = draw(&tallies, span, 50_000);
        assert_eq!(chart.bars.len(), 2);
        let first = &chart.bars[0];
        assert!(
            first.good.1 + first.bad.1 <= HEIGHT + 2
                && first.bad.1 == 2
                && first.bad.0 + first.bad.1 <= first.good.0 + 2
        );
        assert_eq!(first.says, format!("{}: 100 went well, 1 did not", span.0.for_people()));
        assert_eq!(chart.summary, "102 entries: 101 went well, 1 failed or were denied");
        assert!(draw(&[], span, 9).bars.is_empty());
    }
}
