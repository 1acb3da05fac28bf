//! XML as the query services write it, and the forms they read.

use std::fmt::Write as _;

use percent_encoding::percent_decode_str;

/// A document under construction; text is escaped, names are given by the caller.
#[derive(Debug, Default)]
pub(crate) struct Xml(String);

impl Xml {
    pub(crate) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// One element with text in it.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        let _ = write!(self.0, "<{name}>{}</{name}>", escape(text));
        self
    }

    /// The element if there is a text for it.
    pub(crate) fn optional(&mut self, name: &str, text: Option<&str>) -> &mut Self {
        if let Some(text) = text {
            self.text(name, text);
        }
        self
    }

    /// An element with elements in it.
    pub(crate) fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let _ = write!(self.0, "<{name}>");
        inside(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    /// The outermost element, with its name space.
    pub(crate) fn root(
        &mut self,
        name: &str,
        namespace: &str,
        inside: impl FnOnce(&mut Self),
    ) -> &mut Self {
        let _ = write!(self.0, "<{name} xmlns=\"{namespace}\">");
        inside(self);
        let _ = write!(self.0, "</{name}>");
        self
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// Escapes text; characters that XML 1.0 cannot hold become U+FFFD.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(character),
            control if control < ' ' || matches!(control, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// The parameters of a query request, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `a=b&c=d`, `+` being a space.
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        Self(
            text.split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The values of `Prefix.1`, `Prefix.2`, … as far as they go without a gap.
    pub(crate) fn list(&self, prefix: &str) -> Vec<&str> {
        (1..)
            .map_while(|index| self.value(&format!("{prefix}.{index}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_stays_well_formed() {
        let mut xml = Xml::default();
        xml.element("a", |xml| {
            xml.text("b", "<&\"\u{1b}[31m");
        });
        assert_eq!(xml.finish(), "<a><b>&lt;&amp;&quot;\u{fffd}[31m</b></a>");
    }

    #[test]
    fn form_lists_end_at_the_first_gap() {
        let form = Form::parse(
            "Filter.1.Name=tag%3AName&Filter.1.Value.1=we+b*&Filter.1.Value.2=db&Filter.1.Value.4=x",
        );
        assert_eq!(form.value("Filter.1.Name"), Some("tag:Name"));
        assert_eq!(form.list("Filter.1.Value"), ["we b*", "db"]);
    }
}
