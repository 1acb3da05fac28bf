//! Colours: those with a meaning, and those that a profile may name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{env::Env, globals::ColorChoice};

/// Colour of the mark of a protected profile
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MarkColor {
    /// Red
    Red,
    /// Yellow
    Yellow,
    /// Green
    Green,
    /// Blue
    Blue,
    /// Magenta
    Magenta,
    /// Cyan
    Cyan,
}

/// Colours with a meaning; what they look like is decided here alone.
///
/// Of the sixteen colours of a terminal only the six of plain weight are used, on the terminal's
/// own background: a scheme, light or dark, makes these readable. Black, white and the bright ones
/// vanish on one of the two; blue, which is dark everywhere, is for whoever names it in a profile.
/// Each colour goes with a word that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Nothing special.
    Plain,
    /// Of less weight.
    Dim,
    /// Of more weight.
    Bold,
    /// In order.
    Good,
    /// On its way, or worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// A name to act on.
    Accent,
}

impl Style {
    pub(crate) const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Accent => "36",
        }
    }
}

/// What the environment says of colour where nobody else does.
#[derive(Clone, Copy)]
pub(crate) struct AutoColor {
    is_forced: bool,
    is_refused: bool,
}

impl AutoColor {
    pub(crate) fn from_env(env: &Env) -> Self {
        Self {
            // https://no-color.org and https://bixense.com/clicolors, which git, cargo and ls
            // follow in part: `Env::var` takes a variable that is empty for one that is not set, as
            // the first of them asks for.
            is_forced: env.var("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
            is_refused: env.var("NO_COLOR").is_some()
                || env.var("CLICOLOR") == Some("0")
                // A terminal without a name may be of any kind.
                || matches!(env.var("TERM"), None | Some("dumb")),
        }
    }

    /// Whether a stream is coloured that is a terminal or none.
    pub(crate) fn colors(self, choice: ColorChoice, is_terminal: bool) -> bool {
        match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => self.is_forced || (is_terminal && !self.is_refused),
        }
    }
}

/// `text` in a style, or as it is where nothing is coloured.
pub(crate) fn paint(color: bool, style: Style, text: &str) -> String {
    if color && style != Style::Plain {
        format!("\x1b[{}m{text}\x1b[0m", style.sgr())
    } else {
        text.to_owned()
    }
}
