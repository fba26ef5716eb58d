//! What a receiver's answer means for a batch.

use std::time::Duration;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The receiver has the batch.
    Accepted,
    /// It will not come to pass as it is: something in the batch is wrong.
    Rejected(String),
    /// The batch is too large for the receiver.
    TooLarge(String),
    /// The receiver refuses us, not the batch: it waits until somebody mends that.
    Refused(String),
    /// Nothing wrong with the batch: try again, at the earliest after this time if the receiver said so.
    Later { why: String, after: Option<Duration> },
}

impl Answer {
    /// By an HTTP status. 401, 403 and 404 are settings to be mended; so are those that no batch could pass.
    pub fn of_status(status: u16, after: Option<Duration>, said: &str) -> Answer {
        let why = if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") };
        match status {
            200..=299 => Answer::Accepted,
            401 | 403 | 404 | 405 | 407 | 410 | 411 | 501 | 505 => Answer::Refused(why),
            413 => Answer::TooLarge(why),
            408 | 425 | 429 | 500..=599 => Answer::Later { why, after },
            400..=499 => Answer::Rejected(why),
            // A redirection is not followed: the bearer token must not go where nobody sent it.
            300..=399 => Answer::Refused(format!("{why}; set the endpoint to where it leads")),
            _ => Answer::Later { why, after },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let of = |status| Answer::of_status(status, None, "");
        assert!((200..300).all(|status| of(status) == Answer::Accepted));
        for status in [301, 308, 401, 403, 404, 405, 501] {
            assert!(matches!(of(status), Answer::Refused(_)), "{status}");
        }
        for status in [400, 406, 409, 415, 422, 431, 451] {
            assert!(matches!(of(status), Answer::Rejected(_)), "{status}");
        }
        for status in [100, 408, 425, 429, 500, 502, 503, 504, 599, 700] {
            assert!(matches!(of(status), Answer::Later { .. }), "{status}");
        }
        assert_eq!(of(413), Answer::TooLarge("status 413".into()));
        let after = Some(Duration::from_secs(7));
        let expected = Answer::Later { why: "status 429: slow down".into(), after };
        assert_eq!(Answer::of_status(429, after, "slow down"), expected);
    }
}
