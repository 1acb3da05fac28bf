//! `-o jsonl`, `-o jsonpath=` and `-o custom-columns=` of a list of instances.

use ops_core::Listing;
use ops_profile::Instance;
use ops_ui::{Error, Output, Result, json_paths};
use serde_json::Value;

use crate::document;

pub(crate) use json_paths::check;

/// Writes one object per line.
///
/// # Errors
/// A closed pipe.
pub(crate) fn write_names(output: &Output, instances: &[Instance]) -> Result<()> {
    instances
        .iter()
        .try_for_each(|instance| output.line(value_of(instance)?.to_string()))
}

/// Writes what a template makes of the document of `-o json`.
///
/// # Errors
/// No template, or a closed pipe.
pub(crate) fn write_template(output: &Output, listing: &Listing, text: &str) -> Result<()> {
    let document =
        serde_json::to_value(document::list_document(listing)).map_err(Error::unforeseen)?;
    json_paths::write_template(output, &document, text)
}

/// Writes a table of `TITLE:PATH` columns.
///
/// # Errors
/// No columns, or a closed pipe.
pub(crate) fn write_columns(output: &Output, instances: &[Instance], text: &str) -> Result<()> {
    let values: Vec<Value> = instances.iter().map(value_of).collect::<Result<_>>()?;
    json_paths::write_columns(output, &values, text)
}

fn value_of(instance: &Instance) -> Result<Value> {
    serde_json::to_value(document::item_of(instance)).map_err(Error::unforeseen)
}
