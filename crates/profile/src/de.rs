//! From a [`Node`] tree to the typed schema: serde's deserializer over it, whose errors know their
//! place.

use std::fmt;

use ops_ui::{
    Hint, Text, hint,
    text::named,
    yaml::{self, Key, Node, Problem, SourceSpan, Value},
};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor, value::StrDeserializer,
};

use super::suggest::nearest;

/// Reads `node` as a `T`. A value of `null` in a map counts as not there.
///
/// # Errors
/// An unknown key, a value of the wrong type, or one that its type refuses.
pub(crate) fn read<T: serde::de::DeserializeOwned>(node: &Node) -> Result<T, Problem> {
    T::deserialize(Reader(node)).map_err(|error| {
        let mut problem = error.0;
        problem.place.get_or_insert_with(|| node.place.clone());
        problem
    })
}

#[derive(Debug)]
struct Refusal(Problem);

impl Refusal {
    fn with_place(mut self, place: &SourceSpan) -> Self {
        self.0.place.get_or_insert_with(|| place.clone());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Refusal {}

impl serde::de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Problem {
            place: None,
            message: Text::foreign(message),
            hint: None,
        })
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        // serde's own types name themselves in the words of Rust.
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "a sequence" => "a list",
            // What serde calls a type by its name is a map to people.
            text if text.starts_with("struct ") => "a map",
            text => text,
        };
        Self::custom(format!("expected {wanted}, found {}", found(&unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn serde::de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut refusal = Self::custom(format!(
            "expected one of {}, found the text `{variant}`",
            expected.join(", ")
        ));
        refusal.0.hint = nearest(variant, expected.iter().copied())
            .map(|near| hint!("did you mean {}?", named(near)));
        refusal
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format!("the key `{field}` is missing here"))
    }
}

fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(_) => "a truth value".to_owned(),
        Unexpected::Unsigned(n) => format!("the number `{n}`"),
        Unexpected::Signed(n) => format!("the number `{n}`"),
        Unexpected::Float(n) => format!("the number `{n}`"),
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl Reader<'_> {
    fn refuse(&self, wanted: &str) -> Refusal {
        let Node { value, place } = self.0;
        Refusal(match value {
            Value::Text(text) => {
                Problem::at(place, format!("expected {wanted}, found the text `{text}`"))
            }
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => Problem::at(
                place,
                format!(
                    "expected {wanted}, found {} (`{}`)",
                    value.kind(),
                    place.text()
                ),
            ),
            _ => yaml::no_text(place, value, wanted),
        })
    }

    /// The advice to quote what was taken for something else than text, if nothing better is known.
    fn quoted(&self, mut refusal: Refusal) -> Refusal {
        let Node { value, place } = self.0;
        if matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_))
            && refusal.0.place.is_none()
            && refusal.0.message.starts_with("expected ")
        {
            let raw = place.text();
            if matches!(value, Value::Bool(_)) {
                let found = format!("found the truth value `{raw}`");
                refusal.0.message = refusal
                    .0
                    .message
                    .replace("found a truth value", &found)
                    .into();
            }
            refusal
                .0
                .hint
                .get_or_insert_with(|| hint!("put it in quotes: \"{}\"", Hint::document(raw)));
        }
        refusal
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Value::Int(number) = self.0.value else {
            return Err(self.refuse("a whole number"));
        };
        // serde's visitors of integers know u64 and i64. None of the schema takes an i128, so that
        // a number beyond both is refused.
        if let Ok(number) = u64::try_from(number) {
            visitor.visit_u64(number)
        } else if let Ok(number) = i64::try_from(number) {
            visitor.visit_i64(number)
        } else {
            visitor.visit_i128(number)
        }
        .map_err(|error: Refusal| error.with_place(&self.0.place))
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let place = &self.0.place;
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(_) => self.integer(visitor),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, None)),
        }
        .map_err(|error: Refusal| self.quoted(error).with_place(place))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0.value {
            // The parser reads `yes` and `on` as truth values too, as YAML 1.1 does.
            Value::Bool(value) if self.0.place.text().eq_ignore_ascii_case(&value.to_string()) => {
                visitor.visit_bool(value)
            }
            // Editors read YAML 1.2, where `yes` is text: one spelling for everybody.
            Value::Bool(value) => {
                let mut refusal = self.refuse("`true` or `false`");
                refusal.0.hint = Some(hint!("write {}", value.to_string()));
                Err(refusal)
            }
            _ => Err(self.refuse("`true` or `false`")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Node { value, place } = self.0;
        let Value::Text(text) = value else {
            return Err(Refusal(yaml::no_text(place, value, "text")));
        };
        visitor
            .visit_str(text)
            .map_err(|error: Refusal| error.with_place(place))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.deserialize_str(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.integer(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.integer(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.integer(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Value::List(items) = &self.0.value else {
            return Err(self.refuse("a list"));
        };
        visitor
            .visit_seq(Items(items.iter()))
            .map_err(|error| error.with_place(&self.0.place))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let Value::Map(entries) = &self.0.value else {
            return Err(self.refuse("a map"));
        };
        visitor
            .visit_map(Entries::new(entries, None))
            .map_err(|error| error.with_place(&self.0.place))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.0.value {
            Value::Map(entries) => visitor.visit_map(Entries::new(entries, Some(fields))),
            // Some maps have a short form that is text.
            Value::Text(text) => visitor.visit_str(text),
            _ => Err(self.refuse("a map")),
        }
        .map_err(|error: Refusal| error.with_place(&self.0.place))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let Node { value, place } = self.0;
        // The words of all enums are text here: none of them carries a value.
        let word = match value {
            Value::Text(text) => text.as_str(),
            // `confirm: yes` and `host_keys: off` can mean one thing only, so the words stand as
            // they are written.
            Value::Bool(_) if variants.contains(&place.text()) => place.text(),
            _ => "",
        };
        let Some(word) = variants.iter().find(|variant| **variant == word) else {
            let mut refusal = self.refuse(&format!("one of {}", variants.join(", ")));
            refusal.0.hint = nearest(
                place.text().trim_matches(['"', '\'']),
                variants.iter().copied(),
            )
            .map(|near| hint!("did you mean {}?", named(near)));
            return Err(refusal);
        };
        visitor
            .visit_enum(Word(word))
            .map_err(|error| error.with_place(place))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refusal> {
        let Some(node) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(node))
            .map(Some)
            .map_err(|error| error.with_place(&node.place))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, (Key, Node)>,
    fields: Option<&'static [&'static str]>,
    value: Option<&'a Node>,
}

impl<'a> Entries<'a> {
    fn new(entries: &'a [(Key, Node)], fields: Option<&'static [&'static str]>) -> Self {
        Self {
            rest: entries.iter(),
            fields,
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refusal> {
        loop {
            let Some((key, node)) = self.rest.next() else {
                return Ok(None);
            };
            // Before the value is looked at: an unknown key with nothing behind it is a slip too.
            if let Some(fields) = self.fields
                && !fields.contains(&key.text.as_str())
            {
                return Err(unknown_key(key, fields));
            }
            // Merging has left it in the tree as the mark of a key that was removed.
            if matches!(node.value, Value::Null) {
                continue;
            }
            self.value = Some(node);
            let name: StrDeserializer<'_, Refusal> = key.text.as_str().into_deserializer();
            return seed
                .deserialize(name)
                .map(Some)
                .map_err(|error| error.with_place(&key.place));
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refusal> {
        let node = self
            .value
            .take()
            .ok_or_else(|| Refusal::custom("a value without a key"))?;
        seed.deserialize(Reader(node))
            .map_err(|error| error.with_place(&node.place))
    }
}

fn unknown_key(key: &Key, fields: &'static [&'static str]) -> Refusal {
    let problem = Problem::at(&key.place, format!("unknown key `{}`", key.text));
    Refusal(match nearest(&key.text, fields.iter().copied()) {
        Some(near) => problem.hint(hint!("did you mean {}?", named(near))),
        None => problem.hint(hint!(
            "the keys here are {}",
            Hint::document(&fields.join(", "))
        )),
    })
}

struct Word(&'static str);

impl<'de> EnumAccess<'de> for Word {
    type Error = Refusal;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Refusal> {
        let name: StrDeserializer<'_, Refusal> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Refusal> {
        Err(Refusal::custom("expected a word"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Refusal> {
        Err(Refusal::custom("expected a word"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Refusal> {
        Err(Refusal::custom("expected a word"))
    }
}
