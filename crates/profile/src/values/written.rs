//! The serde and JSON Schema forms of a value that is written as text.

/// What a text has to be; gives the type its serde and JSON Schema forms over
/// `FromStr` and `Display`.
macro_rules! written_as_text {
    ($type:ty, $what:literal, $schema:tt) => {
        written_as_text!($type, $what, $schema, no_number);
    };
    ($type:ty, $what:literal, $schema:tt, $number:ident) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    written_as_text!(@$number $type);
                }
                written_as_text!(@call $number deserializer)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
    (@no_number $type:ty) => {};
    (@or_number $type:ty) => {
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
            number.to_string().parse().map_err(E::custom)
        }
    };
    // A type that wants text says so, and so the number is refused with the advice to quote it.
    (@call no_number $deserializer:ident) => { $deserializer.deserialize_str(Visitor) };
    (@call or_number $deserializer:ident) => { $deserializer.deserialize_any(Visitor) };
}

pub(super) use written_as_text;
