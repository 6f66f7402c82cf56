//! An error with what is below it: "connection refused" is what an administrator can act upon.

use std::error::Error;

/// What an error says, and what each cause adds.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = cause.source();
    }
    text
}
