//! `-inject`: a fault for a modelled firmware to have.
//!
//! Only its form is known here. Which operations and statuses there are is the firmware's to say.

use crate::error::Problem;

/// A fault: the nth time that an operation is asked for, it fails with a status and does nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Mechanism and operation, as `sev.launch_secret`; `help` asks which there are.
    pub operation: String,
    /// Name or number.
    pub status: String,
    /// Counted from 1.
    pub nth: u32,
}

impl Injection {
    /// Reads `MECHANISM.OPERATION=STATUS[@N]`, or `help`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        if text == "help" || text == "?" {
            return Ok(Self { operation: "help".to_owned(), status: String::new(), nth: 1 });
        }
        let refused = || Problem::Inject(text.to_owned());
        let (operation, rest) = text.split_once('=').ok_or_else(refused)?;
        let (status, nth) = match rest.split_once('@') {
            None => (rest, 1),
            Some((status, nth)) => (status, nth.parse().map_err(|_| refused())?),
        };
        let (mechanism, name) = operation.split_once('.').ok_or_else(refused)?;
        if [mechanism, name, status].contains(&"") || nth == 0 {
            return Err(refused());
        }
        Ok(Self { operation: operation.to_owned(), status: status.to_owned(), nth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_is_the_default() {
        let injection = |operation: &str, status: &str, nth| Injection {
            operation: operation.to_owned(),
            status: status.to_owned(),
            nth,
        };
        for (text, read) in [
            ("sev.launch_secret=HWERROR_PLATFORM@1", injection("sev.launch_secret", "HWERROR_PLATFORM", 1)),
            ("sev.launch_secret=0x13", injection("sev.launch_secret", "0x13", 1)),
            ("sev.send.start=5@20", injection("sev.send.start", "5", 20)),
            ("help", injection("help", "", 1)),
        ] {
            assert_eq!(Injection::parse(text), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_has_another_form_is_refused() {
        for text in
            ["", "sev", "sev.init", "sev.init=", "init=1", ".init=1", "sev.=1", "sev.init=1@", "sev.init=1@0"]
        {
            assert_eq!(Injection::parse(text), Err(Problem::Inject(text.to_owned())), "{text}");
        }
        assert!(Injection::parse("sev.init=1@-1").is_err() && Injection::parse("sev.init=1@1@2").is_err());
        assert!(Injection::parse("sev.init=1@4294967296").is_err());
    }
}
