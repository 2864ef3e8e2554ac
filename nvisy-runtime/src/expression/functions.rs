//! The functions that expressions can call, but for the macros.

use super::types::Type;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    Int,
    UInt,
    Double,
    String,
    Bool,
    Bytes,
    Timestamp,
    Duration,
    LowerAscii,
    UpperAscii,
    Trim,
    Replace,
    Split,
    Substring,
    Join,
    IndexOf,
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// How a function is called: name, on a value or not, arguments (the value included), usage.
struct Signature {
    function: Function,
    name: &'static str,
    global: bool,
    receiver: bool,
    arity: (usize, usize),
    usage: &'static str,
    result: Type,
}

macro_rules! functions {
    ($($function:ident $name:literal $style:ident $min:literal ..= $max:literal $usage:literal -> $result:ident;)*) => {
        const FUNCTIONS: &[Signature] = &[$(Signature {
            function: Function::$function,
            name: $name,
            global: style::$style.0,
            receiver: style::$style.1,
            arity: ($min, $max),
            usage: $usage,
            result: Type::$result,
        }),*];
    };
}

mod style {
    pub(super) const GLOBAL: (bool, bool) = (true, false);
    pub(super) const RECEIVER: (bool, bool) = (false, true);
    pub(super) const BOTH: (bool, bool) = (true, true);
}

functions! {
    Size "size" BOTH 1..=1 "size(value)" -> Int;
    StartsWith "startsWith" RECEIVER 2..=2 "text.startsWith(text)" -> Bool;
    EndsWith "endsWith" RECEIVER 2..=2 "text.endsWith(text)" -> Bool;
    Contains "contains" RECEIVER 2..=2 "text.contains(text)" -> Bool;
    Matches "matches" BOTH 2..=2 "text.matches(pattern)" -> Bool;
    Int "int" GLOBAL 1..=1 "int(value)" -> Int;
    UInt "uint" GLOBAL 1..=1 "uint(value)" -> UInt;
    Double "double" GLOBAL 1..=1 "double(value)" -> Double;
    String "string" GLOBAL 1..=1 "string(value)" -> Text;
    Bool "bool" GLOBAL 1..=1 "bool(value)" -> Bool;
    Bytes "bytes" GLOBAL 1..=1 "bytes(text)" -> Bytes;
    Timestamp "timestamp" GLOBAL 1..=1 "timestamp('2026-01-31T12:00:00Z')" -> Timestamp;
    Duration "duration" GLOBAL 1..=1 "duration('1h30m')" -> Duration;
    LowerAscii "lowerAscii" RECEIVER 1..=1 "text.lowerAscii()" -> Text;
    UpperAscii "upperAscii" RECEIVER 1..=1 "text.upperAscii()" -> Text;
    Trim "trim" RECEIVER 1..=1 "text.trim()" -> Text;
    Replace "replace" RECEIVER 3..=3 "text.replace(old, new)" -> Text;
    Split "split" RECEIVER 2..=2 "text.split(separator)" -> List;
    Substring "substring" RECEIVER 2..=3 "text.substring(start, end)" -> Text;
    Join "join" RECEIVER 1..=2 "list.join(separator)" -> Text;
    IndexOf "indexOf" RECEIVER 2..=2 "text.indexOf(text)" -> Int;
    FullYear "getFullYear" RECEIVER 1..=1 "timestamp.getFullYear()" -> Int;
    Month "getMonth" RECEIVER 1..=1 "timestamp.getMonth()" -> Int;
    Date "getDate" RECEIVER 1..=1 "timestamp.getDate()" -> Int;
    DayOfMonth "getDayOfMonth" RECEIVER 1..=1 "timestamp.getDayOfMonth()" -> Int;
    DayOfWeek "getDayOfWeek" RECEIVER 1..=1 "timestamp.getDayOfWeek()" -> Int;
    DayOfYear "getDayOfYear" RECEIVER 1..=1 "timestamp.getDayOfYear()" -> Int;
    Hours "getHours" RECEIVER 1..=1 "timestamp.getHours()" -> Int;
    Minutes "getMinutes" RECEIVER 1..=1 "timestamp.getMinutes()" -> Int;
    Seconds "getSeconds" RECEIVER 1..=1 "timestamp.getSeconds()" -> Int;
    Milliseconds "getMilliseconds" RECEIVER 1..=1 "timestamp.getMilliseconds()" -> Int;
}

impl Function {
    fn signature(self) -> &'static Signature {
        // Every function stands in the table: a test says so.
        FUNCTIONS.iter().find(|known| known.function == self).unwrap_or(&FUNCTIONS[0])
    }

    pub(super) fn global(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|known| known.global && known.name == name).map(|known| known.function)
    }

    pub(super) fn receiver(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|known| known.receiver && known.name == name).map(|known| known.function)
    }

    pub(super) fn names(receiver: bool) -> impl Iterator<Item = &'static str> {
        FUNCTIONS.iter().filter(move |f| if receiver { f.receiver } else { f.global }).map(|f| f.name)
    }

    pub(super) fn list(receiver: bool) -> String {
        let names: Vec<_> = Self::names(receiver).collect();
        names.join(", ")
    }

    pub(super) fn name(self) -> &'static str {
        self.signature().name
    }

    pub(super) fn usage(self) -> &'static str {
        self.signature().usage
    }

    pub(super) fn arity(self) -> (usize, usize) {
        self.signature().arity
    }

    /// The type of what it gives.
    pub(super) fn result(self) -> Type {
        self.signature().result
    }

    /// Whether it takes a value of that type as its argument at `index`.
    pub(super) fn takes(self, index: usize, given: Type) -> bool {
        use Type as T;
        let wanted: &[Type] = match (self, index) {
            (Self::Size, _) => &[T::Text, T::Bytes, T::List, T::Map],
            (Self::Int | Self::UInt, _) => &[T::Int, T::UInt, T::Double, T::Text, T::Timestamp],
            (Self::Double, _) => &[T::Int, T::UInt, T::Double, T::Text],
            (Self::String, _) => {
                &[T::Int, T::UInt, T::Double, T::Text, T::Bool, T::Bytes, T::Timestamp, T::Duration]
            }
            (Self::Bool, _) => &[T::Bool, T::Text],
            (Self::Bytes, _) => &[T::Bytes, T::Text],
            (Self::Timestamp, _) => &[T::Timestamp, T::Text, T::Int],
            (Self::Duration, _) => &[T::Duration, T::Text],
            (Self::Substring, 1 | 2) => &[T::Int],
            (Self::Join, 0) => &[T::List],
            (
                Self::FullYear
                | Self::Month
                | Self::Date
                | Self::DayOfMonth
                | Self::DayOfWeek
                | Self::DayOfYear,
                _,
            ) => &[T::Timestamp],
            (Self::Hours | Self::Minutes | Self::Seconds | Self::Milliseconds, _) => {
                &[T::Timestamp, T::Duration]
            }
            _ => &[T::Text],
        };
        given == Type::Any || wanted.contains(&given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_in_the_table() {
        for signature in FUNCTIONS {
            assert_eq!(signature.function.name(), signature.name);
        }
        assert_eq!(Function::Milliseconds as usize + 1, FUNCTIONS.len());
    }
}
