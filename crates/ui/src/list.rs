//! A list in every form that `-o` names.

use serde_json::{Map, Value, json};

use crate::{
    error::Result,
    globals::Format,
    json_paths,
    output::Output,
    style::Style,
    table::{self, Cell, Column},
};

/// Version of the documents' fields: within one, fields are only added.
const API_VERSION: &str = "ops/v1";

/// A list: what programs read of it, and what people do.
pub struct List {
    /// What the document is, such as `SessionList`.
    pub kind: &'static str,
    /// The entries, as objects.
    pub items: Vec<Value>,
    /// What the document has beside its entries.
    pub beside: Map<String, Value>,
    /// What `-o name` writes of each entry.
    pub names: Vec<String>,
    /// The columns of the table, and of `-o csv`.
    pub columns: Vec<Column>,
    /// A row for each entry: texts as they are, with their style.
    pub rows: Vec<Vec<(String, Style)>>,
}

impl List {
    /// Writes it in the form that is asked for, through the pager where it is longer than the
    /// screen. An empty one has no table.
    ///
    /// # Errors
    /// A text behind the form that is no template and no columns; a closed pipe.
    pub fn write(&self, output: &Output) -> Result<()> {
        output.through_pager(|| self.write_straight(output))
    }

    fn write_straight(&self, output: &Output) -> Result<()> {
        match output.format() {
            Format::Json => output.json(&self.document()),
            Format::Yaml => output.yaml(&self.document()),
            Format::Name => self.names.iter().try_for_each(|name| output.line(name)),
            Format::Jsonl => self
                .items
                .iter()
                .try_for_each(|item| output.json_line(item)),
            Format::Csv => output.page(&self.csv(output.headers())),
            Format::JsonPath(template) => {
                json_paths::write_template(output, &self.document(), template.text())
            }
            Format::CustomColumns(spec) => {
                json_paths::write_columns(output, &self.items, spec.text())
            }
            Format::Table | Format::Wide if self.rows.is_empty() => Ok(()),
            Format::Table | Format::Wide => {
                let cell = |(text, style): &(String, Style)| Cell::styled(text, *style);
                let rows = self.rows.iter().map(|row| row.iter().map(cell).collect());
                table::write(output, &self.columns, rows)
            }
        }
    }

    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("apiVersion".to_owned(), json!(API_VERSION));
        document.insert("kind".to_owned(), json!(self.kind));
        document.insert("items".to_owned(), json!(self.items));
        document.extend(self.beside.clone());
        Value::Object(document)
    }

    /// RFC 4180: a header, then a line for each, in quotes where a value needs them.
    fn csv(&self, has_header: bool) -> String {
        let quoted = |text: &str| {
            if text.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let line = |values: Vec<&str>| {
            let values: Vec<String> = values.into_iter().map(quoted).collect();
            format!("{}\r\n", values.join(","))
        };
        let mut text = String::new();
        if has_header {
            let titles = self.columns.iter().map(|column| column.title.as_str());
            text.push_str(&line(titles.collect()));
        }
        for row in &self.rows {
            text.push_str(&line(row.iter().map(|(text, _)| text.as_str()).collect()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_a_comma_or_a_quote_stands_in_quotes() {
        let list = List {
            kind: "SessionList",
            items: vec![json!({"id": "a"})],
            beside: Map::from_iter([("failures".to_owned(), json!([]))]),
            names: vec!["a".to_owned()],
            columns: vec![Column::new("ID", 1), Column::new("REASON", 1)],
            rows: vec![vec![
                ("a".to_owned(), Style::Plain),
                ("INC-1, \"now\"".to_owned(), Style::Dim),
            ]],
        };
        assert_eq!(list.csv(true), "ID,REASON\r\na,\"INC-1, \"\"now\"\"\"\r\n");
        assert_eq!(
            list.document(),
            json!({"apiVersion": "ops/v1", "kind": "SessionList", "items": [{"id": "a"}], "failures": []})
        );
    }
}
