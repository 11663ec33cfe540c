//! Strings of a pipeline file with a syntax of their own, such as the entries of a permission: they are parsed once and
//! keep their text for messages.

/// Implements comparison, ordering, display and serde for a type with `parse` and `as_str`, all by the text as it was
/// written. Deserialising fails if the text doesn't parse.
macro_rules! entry {
    ($type:ty, $error:ty) => {
        impl PartialEq for $type {
            fn eq(&self, other: &$type) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $type {}

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &$type) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            fn cmp(&self, other: &$type) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl std::hash::Hash for $type {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $error;

            fn from_str(entry: &str) -> Result<$type, $error> {
                <$type>::parse(entry)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let entry = std::borrow::Cow::<str>::deserialize(deserializer)?;
                <$type>::parse(&entry).map_err(|error| serde::de::Error::custom(error.explain(&entry)))
            }
        }
    };
}

pub(crate) use entry;
