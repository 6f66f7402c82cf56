//! A small bar chart, drawn on the server as SVG, with the table that says the same.

/// One bar: the hour, and how often something came.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) count: i64,
    pub(super) x: i64,
    pub(super) y: i64,
    pub(super) height: i64,
}

/// Bars of the last hours, the oldest first.
pub(super) struct Chart {
    /// What was counted; also names the chart's elements.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) total: i64,
    pub(super) most: i64,
    pub(super) bars: Vec<Bar>,
}

/// The height of the highest bar, in the units of the drawing; a bar is 8 wide, every 10.
const HEIGHT: i64 = 60;

impl Chart {
    /// From a count for each hour with its label.
    pub(super) fn of(id: &'static str, title: &'static str, counts: Vec<(String, i64)>) -> Self {
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let bar = |(at, (label, count)): (i64, (String, i64))| {
            // What came at all is seen.
            let height = if count == 0 { 0 } else { (count * HEIGHT / most.max(1)).max(2) };
            Bar { label, count, x: at * 10 + 1, y: HEIGHT - height, height }
        };
        let total = counts.iter().map(|(_, count)| *count).sum();
        Self { id, title, total, most, bars: (0..).zip(counts).map(bar).collect() }
    }

    /// The width of the drawing.
    pub(super) fn width(&self) -> usize {
        self.bars.len() * 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_drawing_and_what_came_once_is_seen() {
        let counts = [0, 1, 1000].iter().map(|n| (n.to_string(), *n)).collect();
        let chart = Chart::of("x", "X", counts);
        let heights: Vec<_> = chart.bars.iter().map(|bar| bar.height).collect();
        assert_eq!((heights, chart.total, chart.most, chart.width()), (vec![0, 2, HEIGHT], 1001, 1000, 30));
        assert_eq!(Chart::of("x", "X", vec![("a".into(), 0)]).bars[0].y, HEIGHT);
    }
}
