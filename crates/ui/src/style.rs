//! Colours that a profile may name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
