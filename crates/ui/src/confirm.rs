//! Questions to which the answer is yes or no, all of them in one form.

use crate::{error::Result, output::Output, text::Text};

/// What Enter alone means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `[y/N]`: for whatever cannot be taken back.
    No,
    /// `[Y/n]`: for a way on that nobody regrets.
    Yes,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `y` or `yes`, in capitals too; Enter alone where that means yes.
    Yes,
    /// Anything else, as it was typed and without blanks around it; empty for Enter alone, and for
    /// the end of input.
    No(String),
}

impl Preset {
    fn mark(self) -> &'static str {
        match self {
            Self::No => " [y/N] ",
            Self::Yes => " [Y/n] ",
        }
    }

    /// Reads a line that was typed; `None` is the end of input, which agrees to nothing.
    fn read(self, typed: Option<&str>) -> Answer {
        let Some(typed) = typed.map(str::trim) else {
            return Answer::No(String::new());
        };
        let agrees = typed.eq_ignore_ascii_case("y")
            || typed.eq_ignore_ascii_case("yes")
            || (typed.is_empty() && self == Self::Yes);
        if agrees {
            Answer::Yes
        } else {
            Answer::No(typed.to_owned())
        }
    }
}

impl Answer {
    /// Whether the user agrees.
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }

    /// For an error: `nothing was typed`, or what was typed in place of a yes.
    pub fn why_not(&self) -> String {
        match self {
            Self::No(typed) if !typed.is_empty() => format!("`{typed}` was typed, not `y`"),
            Self::No(_) | Self::Yes => "nothing was typed".to_owned(),
        }
    }
}

impl Output {
    /// Asks `question`, which ends with its question mark, for a yes or a no; see [`Output::ask`].
    ///
    /// # Errors
    /// Those of [`Output::ask`].
    pub async fn confirm(&self, question: impl Into<Text>, preset: Preset) -> Result<Answer> {
        let answer = self.ask(question.into().then(preset.mark())).await?;
        Ok(preset.read(answer.as_deref()))
    }

    /// The same for a question that comes by surprise; see [`Output::ask_anew`].
    ///
    /// # Errors
    /// Those of [`Output::ask`].
    pub async fn confirm_anew(&self, question: impl Into<Text>, preset: Preset) -> Result<Answer> {
        let answer = self.ask_anew(question.into().then(preset.mark())).await?;
        Ok(preset.read(answer.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one_and_the_end_of_input_never_is() {
        for typed in ["y", "Y", "yes", " YES "] {
            assert!(Preset::No.read(Some(typed)).is_yes(), "{typed}");
            assert!(Preset::Yes.read(Some(typed)).is_yes(), "{typed}");
        }
        for typed in ["n", "no", "yess", "ye", "да", "1"] {
            assert!(!Preset::No.read(Some(typed)).is_yes(), "{typed}");
            assert!(!Preset::Yes.read(Some(typed)).is_yes(), "{typed}");
        }
        assert!(!Preset::No.read(Some("")).is_yes());
        assert!(Preset::Yes.read(Some("")).is_yes());
        assert!(!Preset::Yes.read(None).is_yes());
        let told = |typed| Preset::No.read(typed).why_not();
        assert_eq!(told(Some(" nope ")), "`nope` was typed, not `y`");
        assert_eq!(told(None), "nothing was typed");
    }
}
