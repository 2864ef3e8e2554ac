//! Expressions: what they mean, that rows evaluated as columns give the same, that they agree
//! with another implementation of CEL.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int64Array, LargeStringArray, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Batch, Context, Item, KindId, Kinds, Positions, Primitive, SourceIdentity};
use nvisy_runtime::expression::{Expression, Value};
use proptest::prelude::*;
use serde_json::json;

fn row(object: &serde_json::Value) -> Primitive {
    Item::detached("row", Row::from_json(object.as_object().unwrap(), None).unwrap()).into_primitive()
}

fn batch(rows: RecordBatch) -> Batch {
    let context = Context::detached();
    let positions = Positions::from(0);
    Batch::read_rows(rows, positions, &SourceIdentity::new("test"), context.step(), context.metadata())
        .unwrap()
}

#[track_caller]
fn check(text: &str, item: &Primitive, expected: &str) {
    let said = match Expression::compile(text) {
        Ok(expression) => match expression.evaluate(item) {
            Ok(value) => value.to_json().to_string(),
            Err(error) => format!("fault: {}", error.message().split_once(": ").unwrap().1),
        },
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(said, expected, "{text}");
}

#[test]
fn values_are_those_of_cel() {
    let item = row(&json!({
        "a": 7, "b": 2.5, "s": "open", "none": null, "l": [1, 2, 3], "Airport Name": "Goroka", "m": {"k": 1},
        "yes": true,
    }));
    for (text, expected) in [
        ("row.a + 1", "8"),
        ("-row.a / 2", "-3"),
        ("-row.a % 4", "-3"),
        ("row.a * row.b", "17.5"),
        ("1 == 1.0 && 1u == 1", "true"),
        ("row.a > 6.9", "true"),
        ("9007199254740993 > 9007199254740992.0", "true"),
        ("row['Airport Name']", "\"Goroka\""),
        ("row.none == null", "true"),
        ("row.s != null", "true"),
        ("row.s == 'closed' || row.a in [1, 7]", "true"),
        ("'k' in row.m", "true"),
        ("row.m.k + row.l[2]", "4"),
        ("has(row.none) || has(row.zz) || !has(row.s)", "false"),
        ("row.l.map(x, x * 2)", "[2,4,6]"),
        ("row.l.map(x, x > 1, x * 2)", "[4,6]"),
        ("row.l.filter(x, x % 2 == 1)", "[1,3]"),
        ("row.l.all(x, x > 0) && row.l.exists(x, x == 2) && row.l.exists_one(x, x > 2)", "true"),
        ("row.m.map(k, k)", "[\"k\"]"),
        ("row.a > 3 ? 'big' : 'small'", "\"big\""),
        ("size('größe') + size(row.l)", "8"),
        (
            "row.s.startsWith('op') && row.s.endsWith('n') && row.s.contains('pe') && row.s.matches('^o.*n$')",
            "true",
        ),
        ("' A b '.trim().lowerAscii().replace('b', 'c').split(' ').join('-')", "\"a-c\""),
        ("'größe'.substring(2, 4) + 'x'", "\"ößx\""),
        ("int('12') + int(3.9) + int(2u)", "17"),
        ("string(1.5) + string(true) + string(-3)", "\"1.5true-3\""),
        ("timestamp('2026-01-31T23:00:00Z') + duration('1h30m') > timestamp('2026-02-01T00:29:59Z')", "true"),
        ("string(timestamp('2026-01-31T23:00:00+01:00') - timestamp('2026-01-31T00:00:00Z'))", "\"79200s\""),
        ("timestamp('2026-01-31T23:00:00Z').getMonth()", "0"),
        ("{'a': [1, 2]}['a'][1]", "2"),
        ("r'a\\d' + \"\\u00e9\" + '''x'y'''", "\"a\\\\dé x'y\"".replace(' ', "").as_str()),
        ("kind", "\"row\""),
    ] {
        check(text, &item, expected);
    }
}

#[test]
fn a_fault_says_what_to_do() {
    let item = row(&json!({"a": 7, "none": null, "s": "x", "l": [1]}));
    for (text, expected) in [
        (
            "row.none > 3",
            "`>` does not compare null with an integer: test for null first, as in `row.x != null && ..`",
        ),
        ("row.zz == null", "the row has no column `zz`: ask first, with `has(row.zz)`"),
        ("row['z z'] == null", "the row has no column `z z`: ask first, with `has(row['z z'])`"),
        ("row.a / 0", "division by zero"),
        ("row.a + 9223372036854775807", "the result of `+` does not fit into 64 bits"),
        ("row.a && true", "expected true or false, found an integer"),
        ("row.l[1]", "there is no item 1 in a list of 1"),
        ("int(row.s)", "`int` cannot be made of such a text"),
        ("document.text == ''", "the item is a row, there is no `document`: ask for its `kind` first"),
    ] {
        check(text, &item, &format!("fault: {expected}"));
    }
}

#[test]
fn a_side_that_decides_hides_a_fault_of_the_other() {
    let item = row(&json!({"a": 7}));
    check("row.zz > 1 && row.a == 8", &item, "false");
    check("row.zz > 1 || row.a == 7", &item, "true");
    check("[1, 0].exists(x, 1 / x == 1) && ![0, 2].all(x, 4 / x == 1)", &item, "true");
    check("has(document.text)", &item, "false");
    check("kind == 'document' && document.text == ''", &item, "false");
}

#[test]
fn mistakes_are_found_when_compiled() {
    let item = row(&json!({}));
    for (text, expected) in [
        ("", "column 1: the expression is empty"),
        ("rwo.a == 1", "column 1: there is no `rwo`: did you mean `row`?"),
        (
            "state == 'open'",
            "column 1: there is no `state`: columns are `row.state`, a document's fields `document.state`",
        ),
        (
            "row.a.startsWit('x')",
            "column 7: there is no function `.startsWit(..)`: did you mean `startsWith`?",
        ),
        (
            "startsWith(row.a, 'x')",
            "column 1: there is no function `startsWith(..)`: call it on its value: `value.startsWith(..)`",
        ),
        ("document.txt", "column 10: a document has no field `txt`: did you mean `text`?"),
        ("document.text > 3", "column 15: `>` does not compare a text with an integer"),
        ("'a' + 1", "column 5: `+` does not work on a text and an integer"),
        ("1 + 1 && true", "column 3: each side of `&&` is true or false, this is an integer"),
        ("row.a = 3", "column 7: `=` compares nothing: write `==`"),
        ("row.a == 1 &\n row.b", "column 12: `&` is no operator: write `&&`"),
        ("true &&\n  rwo", "line 2, column 3: there is no `rwo`: did you mean `row`?"),
        ("(row.a", "column 7: expected `)` to close the bracket, found the end"),
        ("row.s.matches('(')", "column 15: the pattern is no regular expression: unclosed group"),
        (
            "row.s.matches(row.p)",
            "column 7: the pattern of `matches` is written as a text, such as '^[a-z]+$'",
        ),
        ("'abc", "column 1: the text has no closing '"),
        ("99999999999999999999", "column 1: `99999999999999999999` is no number of 64 bits"),
        ("has(row)", "column 5: `has` asks for a field, such as `has(row.title)`"),
    ] {
        check(text, &item, &format!("error: {expected}"));
    }
    let many = vec!["row.s.matches('a')"; 17].join(" || ");
    check(&many, &item, "error: column 367: the expression has more than 16 patterns: join them with `|`");
    for (text, what) in [
        ("size(row.a)", "column 1: a condition is true or false, this is an integer"),
        ("row.a + 1", "column 7: a condition is true or false, this is the result of a calculation"),
        ("-row.a", "column 1: a condition is true or false, this is the result of a calculation"),
        (
            "row.b && row.a * 2",
            "column 16: each side of `&&` is true or false, this is the result of a calculation",
        ),
    ] {
        assert_eq!(Expression::condition(text).unwrap_err().to_string(), what);
    }
}

#[test]
fn an_expression_from_a_stranger_is_bounded() {
    let deep = |n| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert!(Expression::compile(&deep(60)).is_ok());
    for text in [
        deep(5_000),
        "[".repeat(8_000),
        "!".repeat(8_000),
        "-".repeat(8_000),
        format!("1{}", "+1".repeat(4_000)),
        format!("row{}", ".a".repeat(4_000)),
        format!("{}1", "true ? 1 : ".repeat(1_000)),
        "row.x == 'a' || ".repeat(5_000),
        format!("{}true{}", "[1].all(x, ".repeat(5), ")".repeat(5)),
    ] {
        assert!(Expression::compile(&text).is_err(), "{}", &text[..40]);
    }
    // A long chain of alternatives is no deep one.
    assert!(Expression::compile(&vec!["row.x == 'abc'"; 500].join(" || ")).is_ok());
    let list: Vec<u32> = (0..1_000).collect();
    let item = row(&json!({"l": list, "t": "x".repeat(100_000)}));
    for text in [
        "row.l.map(a, row.l.map(b, row.l.map(c, row.l.map(d, a + b + c + d))))",
        "row.l.all(a, row.l.all(b, row.l.all(c, true)))",
        "row.l.map(a, row.t + row.t)",
        "row.l.map(a, row.t.replace('x', row.t))",
        "row.l.map(a, row.t).join()",
        "row.l.map(a, row.t.split(''))",
        "row.l.all(a, row.l.map(b, row.l) == row.l.map(b, row.l))",
        "row.l.all(a, row.l.map(b, row.l) in [row.l.map(b, row.l)])",
        "row.l.map(a, row.l.map(b, row.l))",
        &format!("[1]{}", ".map(a, [a, a])".repeat(40)),
        &format!("[1]{0} == [1]{0}", ".map(a, [a, a])".repeat(40)),
        "false && row.l.all(a, row.l.all(b, row.l.all(c, true))) || row.l.all(a, row.l.all(b, row.l.all(c, true)))",
    ] {
        let error = Expression::compile(text).unwrap().evaluate(&item).unwrap_err();
        assert!(error.message().contains("more than 1000000 steps"), "{text}: {error}");
    }
}

#[test]
fn it_sees_every_kind() {
    let fields = DocumentFields {
        text: "Hallo".into(),
        language: Some("de".into()),
        attributes: [("page".to_owned(), json!(3))].into(),
        ..Default::default()
    };
    let item =
        Item::detached("d", Document::try_from(fields).unwrap()).with_tag("team", "blue").into_primitive();
    check(
        "document.language == 'de' && document.title == null && document.attributes.page == 3",
        &item,
        "true",
    );
    check("has(document.title) || has(meta.tags.none)", &item, "false");
    check("meta.tags.team + '/' + kind", &item, "\"blue/document\"");
    check("size(id)", &item, "36");
    let raw = Item::detached("r", Raw::from(json!({"a": {"b": [1, null]}, "n": null}))).into_primitive();
    check("raw.a.b[0] == 1 && raw.a.b[1] == null && has(raw.n) && !has(raw.m)", &raw, "true");
    assert_eq!(Expression::compile("document.text").unwrap().kinds(), Kinds::of(KindId::Document));
    assert_eq!(Expression::compile("has(document.text) || row.a == 1").unwrap().kinds(), Kinds::ANY);
    let references = Expression::compile("row.a.b == meta.tags.x && row['c d'] > 1").unwrap();
    let paths: Vec<_> = references.references().iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["row.a.b", "meta.tags.x", "row.c d"]);
}

#[test]
fn a_fault_fails_one_row_and_not_its_neighbours() {
    let columns: [(&str, ArrayRef); 1] =
        [("n", Arc::new(Int64Array::from(vec![Some(4), Some(0), None, Some(1)])))];
    let batch = batch(RecordBatch::try_from_iter(columns).unwrap());
    let mask = Expression::condition("4 / row.n > 1").unwrap().filter_mask(&batch);
    assert_eq!(mask.bits, BooleanArray::from(vec![false, false, false, true]));
    let faults: Vec<_> = mask.faults.iter().map(|(index, error)| (*index, error.message())).collect();
    assert_eq!(faults[0], (1, "expression `4 / row.n > 1`, column 3: division by zero"));
    assert_eq!(faults[1].0, 2);
    assert_eq!(mask.faults[0].1.context().item.as_deref().unwrap(), batch.id(1).to_string());
}

/// Columns of every type that there is a fast path for, and of some that there is none for.
fn columns() -> impl Strategy<Value = RecordBatch> {
    let int = prop_oneof![Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), -3_i64..4];
    let uint = prop_oneof![Just(u64::MAX), Just(1 << 63), 0_u64..4];
    let double = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-0.0),
        Just(0.0),
        Just(2.5),
        Just(9_007_199_254_740_992.0),
        -2.0_f64..3.0,
    ];
    let text = prop_oneof![Just(""), Just("a"), Just("ab"), Just("größe"), Just("b")];
    let one = (
        prop::option::weighted(0.8, int),
        prop::option::weighted(0.8, -3_i8..4),
        prop::option::weighted(0.8, uint),
        prop::option::weighted(0.8, double),
        prop::option::weighted(0.8, text),
        prop::option::weighted(0.8, any::<bool>()),
    );
    (prop::collection::vec(one, 0..9), any::<bool>()).prop_map(|(rows, sliced)| {
        let texts = || rows.iter().map(|r| r.4);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>())),
            ("i8", Arc::new(rows.iter().map(|r| r.1).collect::<Int8Array>())),
            ("u", Arc::new(rows.iter().map(|r| r.2).collect::<UInt64Array>())),
            ("u32", Arc::new(rows.iter().map(|r| r.2.map(|u| u as u32)).collect::<UInt32Array>())),
            ("f", Arc::new(rows.iter().map(|r| r.3).collect::<Float64Array>())),
            ("f32", Arc::new(rows.iter().map(|r| r.3.map(|f| f as f32)).collect::<Float32Array>())),
            ("s", Arc::new(texts().collect::<StringArray>())),
            ("sl", Arc::new(texts().rev().collect::<LargeStringArray>())),
            ("sv", Arc::new(texts().collect::<StringViewArray>())),
            ("d", Arc::new(texts().collect::<DictionaryArray<Int32Type>>())),
            ("b", Arc::new(rows.iter().map(|r| r.5).collect::<BooleanArray>())),
            ("nothing", Arc::new(NullArray::new(rows.len()))),
            (
                "l",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
                    rows.iter().map(|r| r.0.map(|i| vec![r.1.map(i64::from), Some(i)])),
                )),
            ),
            ("dec", Arc::new(rows.iter().map(|r| r.1.map(i128::from)).collect::<Decimal128Array>())),
            ("t", Arc::new(rows.iter().map(|r| r.1.map(i64::from)).collect::<TimestampMicrosecondArray>())),
        ];
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        if sliced && batch.num_rows() > 2 { batch.slice(1, batch.num_rows() - 2) } else { batch }
    })
}

/// Expressions of the subset that runs as kernels, sound and unsound.
fn texts() -> impl Strategy<Value = String> {
    let column = prop::sample::select(vec![
        "row.i",
        "row.i8",
        "row.u",
        "row.u32",
        "row.f",
        "row.f32",
        "row.s",
        "row.sl",
        "row.sv",
        "row.d",
        "row.b",
        "row.nothing",
        "row.l",
        "row.dec",
        "row.t",
        "row.zz",
    ]);
    let literal = prop::sample::select(vec![
        "0",
        "1",
        "-2",
        "200",
        "9223372036854775807",
        "9007199254740993",
        "1u",
        "18446744073709551615u",
        "2.5",
        "0.0",
        "-1.0",
        "1e300",
        "'a'",
        "'ab'",
        "'größe'",
        "true",
        "false",
        "null",
    ]);
    let column = column.prop_map(str::to_owned);
    let leaf = prop_oneof![3 => column.clone(), 1 => literal.clone().prop_map(str::to_owned)];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let operator = prop::sample::select(vec![
            "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||", "==", "&&", "||",
        ]);
        let test = prop::sample::select(vec![
            "startsWith('a')", "endsWith('b')", "contains('')", "contains('r')", "matches('^a')", "matches('ß')",
        ]);
        prop_oneof![
            6 => (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => (inner.clone(), test).prop_map(|(a, test)| format!("({a}).{test}")),
            1 => (inner, prop::collection::vec(literal.clone(), 0..4)).prop_map(|(a, l)| format!("({a} in [{}])", l.join(", "))),
            1 => prop::sample::select(vec!["has(row.i)", "has(row.zz)", "has(row.nothing)", "has(row.d)"]).prop_map(str::to_owned),
        ]
    })
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Double(a), Value::Double(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        _ => left == right,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn columns_give_what_rows_give(rows in columns(), text in texts()) {
        let Ok(expression) = Expression::compile(&text) else { return Ok(()) };
        prop_assert!(expression.is_columnar() , "{}", text);
        let batch = batch(rows);
        let one_by_one = expression.evaluate_batch(&batch);
        // As a condition.
        let mask = expression.filter_mask(&batch);
        let mut faults = mask.faults.iter().map(|(index, error)| (*index as usize, error.message().to_owned()));
        for (index, value) in one_by_one.iter().enumerate() {
            let truth = matches!(value, Ok(Value::Bool(true)));
            prop_assert_eq!(mask.bits.value(index), truth, "{} row {}: {:?}", text, index, value);
            if !matches!(value, Ok(Value::Bool(_))) {
                let fault = faults.next();
                prop_assert_eq!(fault.as_ref().map(|f| f.0), Some(index), "{} row {}: {:?}", text, index, value);
                if let Err(error) = value {
                    prop_assert_eq!(fault.unwrap().1, error.message());
                }
            }
        }
        prop_assert!(faults.next().is_none());
        // As a column.
        let column = expression.evaluate_column(&batch);
        let made = RecordBatch::try_from_iter_with_nullable([("v", column.values, true)]).unwrap();
        let read = Expression::compile("row.v").unwrap().evaluate_batch(&self::batch(made));
        for (index, value) in one_by_one.iter().enumerate() {
            let fault = column.faults.iter().find(|(at, _)| *at as usize == index);
            match value {
                Ok(value) => {
                    prop_assert!(fault.is_none(), "{} row {}: {:?}", text, index, fault);
                    let read = read[index].as_ref().unwrap();
                    prop_assert!(same(value, read), "{} row {}: {:?} {:?}", text, index, value, read);
                }
                Err(error) => {
                    prop_assert_eq!(fault.map(|(_, e)| e.message()), Some(error.message()));
                    prop_assert!(matches!(read[index], Ok(Value::Null)));
                }
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z0-9.'\"\\[\\](){}?:!&|=<>+*/% ,\\\\`-]{0,60}") {
        let _ = Expression::compile(&text);
        let _ = Expression::compile(&format!("row.{text}"));
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_another_implementation(rows in columns(), text in texts()) {
        let Ok(expression) = Expression::compile(&text) else { return Ok(()) };
        let Ok(program) = cel::Program::compile(&text) else { panic!("{text} is no CEL") };
        let names = ["i", "i8", "u", "u32", "f", "f32", "s", "sl", "sv", "d", "b", "nothing", "l"];
        for item in batch(rows).iter() {
            let mut context = cel::Context::default();
            let mut map = std::collections::HashMap::new();
            for name in names {
                let value = Expression::compile(&format!("row.{name}")).unwrap().evaluate(&item).unwrap();
                map.insert(name.to_owned(), foreign(&value));
            }
            context.add_variable_from_value("row", map);
            // What it cannot evaluate, it says nothing of: it has no arithmetic over numbers of
            // two types, and no decimals and timestamps of Arrow. And its map has keys of nulls, and
            // it rounds integers that it compares with doubles.
            let Ok(theirs) = program.execute(&context) else { continue };
            if text.contains("has(") || (text.contains("9007199254740993") && text.contains("row.f")) { continue }
            let ours = expression.evaluate(&item);
            match &ours {
                Ok(ours) => prop_assert!(equal(&theirs, &foreign(ours)), "{}: {:?}, theirs {:?}", text, ours, theirs),
                Err(error) => prop_assert!(false, "{}: {}, theirs {:?}", text, error, theirs),
            }
        }
    }
}

fn equal(left: &cel::Value, right: &cel::Value) -> bool {
    match (left, right) {
        (cel::Value::Float(a), cel::Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => left == right,
    }
}

fn foreign(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::UInt(value) => (*value).into(),
        Value::Double(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
        Value::List(values) => values.iter().map(foreign).collect::<Vec<_>>().into(),
        other => panic!("{other:?}"),
    }
}
