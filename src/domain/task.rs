//! Tasks: pieces of work on a board, and the moves between its columns.

use std::fmt;

use super::{id::public_id, log_line::without_secrets, screen, time::Moment, words::words};

public_id!(
    /// The public name of a task: `tsk-` and 12 characters.
    TaskId,
    "tsk-"
);

words! {
    /// The column that a task stands in.
    TaskStatus {
        /// Some time.
        Backlog = "backlog",
        /// To be done.
        Pending = "pending",
        /// Being done.
        InProgress = "in_progress",
        /// Done, somebody looks at it.
        Review = "review",
        /// Finished.
        Done = "done",
    }
}

words! {
    /// How much it matters.
    Priority {
        /// When there is time.
        Low = "low",
        /// As usual.
        Medium = "medium",
        /// Before others.
        High = "high",
        /// Before everything.
        Critical = "critical",
    }
}

impl TaskStatus {
    /// Where a task may go from here, beside staying.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Backlog => &[Self::Pending],
            Self::Pending => &[Self::InProgress],
            Self::InProgress => &[Self::Review, Self::Done],
            Self::Review => &[Self::Done, Self::InProgress],
            Self::Done => &[Self::InProgress, Self::Review],
        }
    }

    /// Whether a task may go from here to `to`.
    ///
    /// # Errors
    /// [`NoSuchMove`] names what is allowed.
    pub fn check_move(self, to: Self) -> Result<(), NoSuchMove> {
        if self == to || self.next().contains(&to) { Ok(()) } else { Err(NoSuchMove { from: self, to }) }
    }
}

/// A move that the board does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchMove {
    from: TaskStatus,
    to: TaskStatus,
}

impl fmt::Display for NoSuchMove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let allowed: Vec<_> = self.from.next().iter().map(|s| s.as_str()).collect();
        let (from, to) = (self.from.as_str(), self.to.as_str());
        write!(f, "a task cannot go from {from} to {to}; from {from} it can go to {}", allowed.join(" or "))
    }
}

impl std::error::Error for NoSuchMove {}

/// The longest title, in characters.
pub const LONGEST_TITLE: usize = 200;
/// The longest description, in characters.
pub const LONGEST_DESCRIPTION: usize = 10_000;

/// A title: one line that says something.
///
/// # Errors
/// What would be right.
pub fn check_title(text: &str) -> Result<String, String> {
    let text = text.trim();
    let sound = !text.is_empty() && text.chars().count() <= LONGEST_TITLE && !text.contains(screen::acts);
    if sound { Ok(without_secrets(text)) } else { Err(format!("expected one line of 1 to {LONGEST_TITLE} characters")) }
}

/// A description: text of several lines.
///
/// # Errors
/// What would be right.
pub fn check_description(text: &str) -> Result<String, String> {
    let odd = |c: char| screen::acts(c) && !matches!(c, '\n' | '\t');
    let text = text.replace("\r\n", "\n");
    if text.chars().count() <= LONGEST_DESCRIPTION && !text.chars().any(odd) {
        return Ok(without_secrets(&text));
    }
    Err(format!("expected text of at most {LONGEST_DESCRIPTION} characters, without control characters"))
}

/// A task as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its public id.
    pub id: TaskId,
    /// What is to be done.
    pub title: String,
    /// More about it.
    pub description: String,
    /// Its column.
    pub status: TaskStatus,
    /// How much it matters.
    pub priority: Priority,
    /// Its place in the column, from 0.
    pub position: i64,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Moment,
    /// When it last changed.
    pub updated_at: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_moves_of_the_board_are_allowed() {
        let allowed = |from: TaskStatus| -> Vec<&str> {
            let to = TaskStatus::EVERY.iter().filter(|to| from.check_move(**to).is_ok());
            to.map(|to| to.as_str()).collect()
        };
        assert_eq!(allowed(TaskStatus::Backlog), ["backlog", "pending"]);
        assert_eq!(allowed(TaskStatus::Pending), ["pending", "in_progress"]);
        assert_eq!(allowed(TaskStatus::InProgress), ["in_progress", "review", "done"]);
        assert_eq!(allowed(TaskStatus::Review), ["in_progress", "review", "done"]);
        assert_eq!(allowed(TaskStatus::Done), ["in_progress", "review", "done"]);
        let refused = TaskStatus::Backlog.check_move(TaskStatus::Done).unwrap_err();
        assert_eq!(refused.to_string(), "a task cannot go from backlog to done; from backlog it can go to pending");
    }

    #[test]
    fn texts_are_bounded_and_hold_nothing_that_a_terminal_acts_on() {
        assert_eq!(check_title("  Fix it ").as_deref(), Ok("Fix it"));
        for wrong in ["", "  ", "a\nb", "a\u{1b}[31m", &"x".repeat(201)] {
            assert!(check_title(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(check_description("a\r\nb\tc").as_deref(), Ok("a\nb\tc"));
        assert!(check_description("a\u{7}").is_err() && check_description(&"x".repeat(10_001)).is_err());
    }
}
