//! One Markdown table.

/// What a measure has to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Shown beside the others.
    None,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Row {
    measure: String,
    value: String,
    /// What the bar is about, with its unit.
    ratio: (f64, &'static str),
    bar: Bar,
}

impl Row {
    pub(crate) fn new(
        measure: impl Into<String>,
        value: impl Into<String>,
        ratio: (f64, &'static str),
        bar: Bar,
    ) -> Self {
        Self { measure: measure.into(), value: value.into(), ratio, bar }
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("\n| Measure | Value | Ratio | Bar | |\n|---|---|---|---|---|");
    for Row { measure, value, ratio: (ratio, unit), bar } in rows {
        let (bar, met) = match bar {
            Bar::AtLeast(least) => (format!("≥ {least}{unit}"), Some(ratio >= least)),
            Bar::AtMost(most) => (format!("≤ {most}{unit}"), Some(ratio <= most)),
            Bar::None => (String::new(), None),
        };
        let met = met.map_or("", |met| if met { "met" } else { "**MISSED**" });
        println!("| {measure} | {value} | {ratio:.2}{unit} | {bar} | {met} |");
    }
}
