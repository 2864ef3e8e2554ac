//! The built-in actions: what they do to items of every kind, and what they refuse.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use nvisy_core::plugin::ActionType;
use nvisy_core::primitive::completion::{Completion, CompletionFields, Usage};
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields};
use nvisy_core::primitive::message::Message;
use nvisy_core::primitive::object::{Object, ObjectFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::structured_output::StructuredOutput;
use nvisy_core::{
    Action, ActionConfig, Batch, Context, Item, Kind, KindId, Kinds, NoClient, OpenContext, Outcomes,
    Payload, Positions, Primitive, SourceIdentity,
};
use nvisy_runtime::actions::{Convert, Deduplicate, Filter, Gather, Map, Validate, plugin};
use serde_json::{Value, json};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open() -> OpenContext {
    OpenContext::new(Context::detached(), Arc::new(NoClient))
}

/// Applies an action to batches, one after the other.
fn apply_all(
    config: &impl ActionConfig<Client = NoClient>,
    batches: Vec<Batch>,
) -> Vec<nvisy_core::Result<Outcomes>> {
    let context = Context::detached();
    let mut results = Vec::new();
    let action = block_on(config.build(&open())).unwrap();
    let mut state = match &action {
        Action::Stateful(make) => Some(make()),
        _ => None,
    };
    for batch in batches {
        let len = batch.len();
        let outcomes = match (&action, &mut state) {
            (Action::Batch(action), _) => block_on(action.call(batch, &context)),
            (_, Some(state)) => block_on(state.call(batch, 0, &context)),
            _ => panic!("another form"),
        };
        if let Ok(outcomes) = &outcomes {
            outcomes.check(len).unwrap();
        }
        results.push(outcomes);
    }
    results
}

fn apply(config: &impl ActionConfig<Client = NoClient>, batch: Batch) -> Outcomes {
    apply_all(config, vec![batch]).remove(0).unwrap()
}

fn one<K: Kind>(config: &impl ActionConfig<Client = NoClient>, payload: K) -> Result<Payload, String> {
    let item = Item::detached("one", payload).into_primitive();
    let id = item.id();
    let outcomes = apply(config, Batch::from_primitives(vec![item]));
    if let Some((_, error)) = outcomes.failed.first() {
        return Err(error.message().to_owned());
    }
    assert_eq!(outcomes.emitted.id(0), id, "an edit keeps the id");
    assert_eq!(outcomes.emitted.lineage(0).records().len(), 2, "an edit is in the lineage");
    Ok(outcomes.emitted.payload(0))
}

fn row(value: &Value) -> Row {
    Row::from_json(value.as_object().unwrap(), None).unwrap()
}

fn json_of(payload: &Payload) -> Value {
    match payload {
        Payload::Row(row) => Value::Object(row.to_json()),
        Payload::Raw(raw) => raw.as_json().unwrap().clone(),
        Payload::Document(document) => serde_json::to_value(&**document).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn orders() -> Batch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("qty", Arc::new(Int64Array::from(vec![Some(2), None, Some(0), Some(5)]))),
        ("price", Arc::new(Float64Array::from(vec![1.5, 2.0, 3.0, 4.0]))),
        ("state", Arc::new(StringArray::from(vec!["open", "open", "closed", "open"]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let context = Context::detached();
    Batch::read_rows(
        rows,
        Positions::from(0),
        &SourceIdentity::new("orders"),
        context.step(),
        context.metadata(),
    )
    .unwrap()
}

fn items(rows: &Batch) -> Batch {
    // Rows of two schemas stay items.
    let mut primitives: Vec<Primitive> = rows.iter().collect();
    primitives.push(
        Item::detached("other", row(&json!({"id": 9, "qty": 9, "price": 9.5, "state": "open", "x": 1})))
            .into_primitive(),
    );
    Batch::from_primitives(primitives)
}

#[test]
fn a_filter_drops_fails_and_keeps() {
    let filter = Filter::when("row.state == 'open' && row.qty > 2");
    assert!(filter.is_columnar());
    for (batch, kept) in [(orders(), 1), (items(&orders()), 2)] {
        let ids = batch.ids();
        let outcomes = apply(&filter, batch);
        assert_eq!(outcomes.emitted.len(), kept);
        assert_eq!(outcomes.emitted.id(0), ids[3]);
        assert_eq!(outcomes.dropped, vec![("filtered".into(), 2)]);
        assert_eq!(outcomes.failed[0].0, 1);
        assert!(outcomes.failed[0].1.message().contains("null"), "{:?}", outcomes.failed);
        assert_eq!(outcomes.attribution.of(0), 3);
    }
    let all = apply(&Filter::when("row.id > 0"), orders());
    assert_eq!(all.attribution, nvisy_core::outcome::Attribution::Same);
    assert!(all.emitted.as_rows().is_some() && all.dropped.is_empty());
}

#[test]
fn a_condition_that_cannot_work_is_a_problem_of_the_config() {
    let problems = Filter::when("row.a +").validate();
    assert_eq!((problems[0].path.as_str(), problems[0].code), ("when", "expression.invalid"));
    assert!(!Filter::when("size(row.a)").validate().is_empty());
    let problems = Map::new().set("x", "rwo.a").validate();
    assert_eq!(problems[0].path, "set.x");
    assert_eq!(Map::new().validate()[0].message, "there is nothing to do");
    let problems = Map::new().rename("a", "b").rename("c", "b").project(["a", "b", "b"]).validate();
    let paths: Vec<_> = problems.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["rename.c", "project[0]", "project[2]"]);
    assert_eq!(Deduplicate::by("]").memory(15).validate().len(), 2);
    assert_eq!(Gather::items(0).bytes(0).validate().len(), 2);
    let problems = Validate::schema(json!({"properties": {"a": {"type": "integr"}}})).validate();
    assert_eq!(problems[0].path, "schema.properties.a.type");
    assert!(!Validate::schema(json!({"$ref": "https://example.com/s.json"})).validate().is_empty());
}

#[test]
fn a_map_renames_projects_and_sets() {
    let map = Map::new()
        .rename("qty", "quantity")
        .project(["state", "quantity"])
        .set("total", "row.quantity == null ? 0.0 : row.quantity * row.price")
        .set("state", "row.state + '!'");
    let expected = json!({"state": "open!", "quantity": 2, "total": 3.0});
    for batch in [orders(), items(&orders())] {
        let outcomes = apply(&map, batch);
        assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
        assert_eq!(json_of(&outcomes.emitted.payload(0)), expected);
    }
    // Columnar: the fault of one row is its own.
    let outcomes = apply(&Map::new().set("total", "row.qty * row.price"), orders());
    assert_eq!(outcomes.failed.len(), 1);
    assert_eq!(outcomes.emitted.as_rows().unwrap().num_rows(), 3);
    assert_eq!((outcomes.attribution.of(0), outcomes.attribution.of(1)), (0, 2));
    let names: Vec<_> =
        outcomes.emitted.as_rows().unwrap().schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["id", "qty", "price", "state", "total"]);
}

#[test]
fn a_map_fails_items_whose_fields_do_not_fit() {
    for (map, message) in [
        (Map::new().rename("zz", "b"), "`zz`: is not there, and `rename` names it"),
        (Map::new().project(["zz"]), "`zz`: is not there, and `project` names it"),
        (Map::new().rename("id", "qty"), "`qty`: would be the name of two fields: rename the other as well"),
    ] {
        for batch in [orders(), items(&orders())] {
            let len = batch.len();
            let outcomes = apply(&map, batch);
            assert_eq!(outcomes.failed.len(), len);
            assert_eq!(outcomes.failed[0].1.message(), message);
        }
    }
}

#[test]
fn a_map_sets_fields_of_documents_raw_json_and_envelopes() {
    let document = Document::new("Hello").unwrap();
    let map = Map::new()
        .set("title", "document.text + '!'")
        .set("attributes.len", "size(document.text)")
        .set("meta.tags.lang", "'en'")
        .set("meta.custom.n", "[1, 2]");
    let outcomes = apply(&map, Batch::from_primitives(vec![Item::detached("d", document).into_primitive()]));
    let made = outcomes.emitted.primitive(0);
    let Payload::Document(document) = made.payload() else { panic!() };
    assert_eq!((document.title.as_deref(), &document.attributes["len"]), (Some("Hello!"), &json!(5)));
    assert_eq!(made.metadata().tags["lang"], "en");
    assert_eq!(made.metadata().custom["n"], json!([1, 2]));
    assert_eq!(map.input_kinds(), Kinds::of(KindId::Document));

    let map = Map::new().rename("a", "b").project(["b"]).set("c", "raw.b + raw.x");
    let raw = one(&map, Raw::from(json!({"a": 1, "x": 2}))).unwrap();
    assert_eq!(json_of(&raw), json!({"b": 1, "c": 3}));
    let error = one(&map, Document::new("x").unwrap()).unwrap_err();
    assert_eq!(error, "`map`: has no such fields in a document: put a `convert` in between");

    // Tags over rows leave the rows columnar.
    let outcomes = apply(&Map::new().set("meta.tags.state", "row.state"), orders());
    assert!(outcomes.emitted.as_rows().is_some());
    assert_eq!(outcomes.emitted.metadata(2).tags["state"], "closed");
}

#[test]
fn values_of_two_types_make_no_column() {
    let outcomes = apply(&Map::new().set("x", "row.id == 2 ? 'two' : row.id"), orders());
    assert_eq!(outcomes.failed.len(), 1);
    assert!(
        outcomes.failed[0]
            .1
            .message()
            .ends_with("gives a text here and an integer before: a column has one type")
    );
    let outcomes =
        apply(&Map::new().set("x", "row.id == 1 ? [] : [row.id, 2]").set("y", "{'a': row.qty}"), orders());
    assert!(outcomes.failed.is_empty(), "{:?}", outcomes.failed);
    let json = json_of(&outcomes.emitted.payload(1));
    assert_eq!((&json["x"], &json["y"]), (&json!([2, 2]), &json!({"a": null})));
}

#[test]
fn lists_and_maps_of_one_column_keep_what_is_in_them() {
    let batch = |values: &[Value]| {
        let rows = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from_iter_values(0..values.len() as i64)) as ArrayRef),
            ("json", Arc::new(StringArray::from_iter_values(values.iter().map(Value::to_string)))),
        ]);
        let context = Context::detached();
        let source = SourceIdentity::new("values");
        let (step, metadata) = (context.step(), context.metadata());
        Batch::read_rows(rows.unwrap(), Positions::from(0), &source, step, metadata).unwrap()
    };
    let xs = |outcomes: &nvisy_core::Result<Outcomes>| -> Vec<Value> {
        let emitted = &outcomes.as_ref().unwrap().emitted;
        (0..emitted.len()).map(|index| json_of(&emitted.payload(index))["x"].clone()).collect()
    };
    let failed = |outcomes: &nvisy_core::Result<Outcomes>| -> Vec<u32> {
        outcomes.as_ref().unwrap().failed.iter().map(|(index, _)| *index).collect()
    };
    let by = |expression: &str, lens: &[usize]| {
        let batches = lens.iter().map(|len| batch(&vec![json!(0); *len])).collect();
        apply_all(&Map::new().set("x", expression), batches)
    };

    let done = by("{row.n % 2 == 0 ? 'DE' : 'FR': row.n + 5}", &[2]);
    assert_eq!(xs(&done[0]), [json!({"DE": 5, "FR": null}), json!({"DE": null, "FR": 6})]);
    let done = by("row.n == 0 ? ['a'] : [1]", &[2]);
    assert_eq!(xs(&done[0]), [json!(["a"]), json!(["1"])]);
    let done = by("row.n == 0 ? [9223372036854775813u] : [5u]", &[2]);
    assert_eq!(xs(&done[0]), [json!([9_223_372_036_854_775_813_u64]), json!([5])]);

    // A batch later, with the type that the first one has shown.
    let done = by("{row.n == 2 ? 'FR' : 'DE': row.n}", &[2, 4]);
    assert_eq!(xs(&done[0]), [json!({"DE": 0}), json!({"DE": 1})]);
    assert_eq!(failed(&done[1]), [2]);
    assert_eq!(xs(&done[1]), [json!({"DE": 0}), json!({"DE": 1}), json!({"DE": 3})]);
    let done = by("row.n == 0 ? [1.5] : row.n == 1 ? [9007199254740993] : ['a']", &[1, 3]);
    assert_eq!((xs(&done[1]), failed(&done[1])), (vec![json!([1.5])], vec![1, 2]));
    let message = done[1].as_ref().unwrap().failed[0].1.message().to_owned();
    assert!(message.contains("before: a column has one type"), "{message}");

    // A column for each item would not end: it says so, and does not take all memory.
    let done = by("{string(row.n): 1}", &[5_000]);
    let failed = &done[0].as_ref().unwrap().failed;
    assert_eq!(failed.len(), 5_000);
    assert!(failed[0].1.message().contains("too many different keys"), "{}", failed[0].1);
}

#[test]
fn the_first_of_its_like_wins() {
    let numbers = |values: &[i64]| {
        let items = values
            .iter()
            .enumerate()
            .map(|(i, n)| Item::detached(&i.to_string(), Raw::from(json!(n))).into_primitive());
        Batch::from_primitives(items.collect())
    };
    let results = apply_all(&Deduplicate::by_content(), vec![numbers(&[1, 2, 1]), numbers(&[2, 3])]);
    let [first, second] = [results[0].as_ref().unwrap(), results[1].as_ref().unwrap()];
    assert_eq!((first.emitted.len(), second.emitted.len()), (2, 1));
    assert_eq!(second.dropped, vec![("duplicate".into(), 1)]);
    assert_eq!(second.attribution.of(0), 1);

    let results = apply_all(&Deduplicate::by("raw % 2"), vec![numbers(&[1, 2, 3, 4])]);
    assert_eq!(results[0].as_ref().unwrap().emitted.len(), 2);

    let outcomes = apply(&Deduplicate::by("row.qty"), orders());
    assert_eq!((outcomes.emitted.len(), outcomes.failed.len()), (3, 1));
    assert!(outcomes.failed[0].1.message().contains("is null"));
}

#[test]
fn what_was_seen_is_known_also_beyond_the_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (items, each) = (120_000, 1_000);
    let rows = |from: i64| {
        let n = (from..from + each).map(|n| n * 7_919 % items);
        let columns = [("n", Arc::new(Int64Array::from_iter_values(n)) as ArrayRef)];
        Batch::from_primitives(
            (from..from + each)
                .map(|n| Item::detached(&n.to_string(), Raw::from(json!(n))).into_primitive())
                .collect(),
        )
        .with_rows(RecordBatch::try_from_iter(columns).unwrap())
        .unwrap()
    };
    runtime.block_on(async {
        let Action::Stateful(make) = Deduplicate::by("row.n").memory(1_000_000).build(&open()).await.unwrap()
        else {
            panic!("it remembers")
        };
        let (mut once, mut emitted) = (make(), 0);
        for from in (0..3 * items).step_by(each as usize) {
            let outcomes = once.call(rows(from), 0, &Context::detached()).await.unwrap();
            outcomes.check(each as usize).unwrap();
            emitted += outcomes.emitted.len() as i64;
            assert_eq!(emitted, (from + each).min(items), "behind {from}");
        }
    });
}

#[test]
fn equal_keys_of_two_types_are_one() {
    let keys = [
        json!(1),
        json!(1.0),
        json!([1, {"b": 1, "a": 2}]),
        json!([1.0, {"a": 2, "b": 1}]),
        json!("1"),
        json!(1.5),
    ];
    let items = keys
        .iter()
        .enumerate()
        .map(|(i, key)| Item::detached(&i.to_string(), Raw::from(key.clone())).into_primitive());
    let outcomes = apply(&Deduplicate::by("raw"), Batch::from_primitives(items.collect()));
    assert_eq!(outcomes.emitted.len(), 4);
}

#[test]
fn what_does_not_obey_the_schema_fails_with_its_path() {
    let schema = json!({
        "required": ["id"],
        "properties": { "qty": { "type": ["integer", "null"], "minimum": 1 }, "state": { "pattern": "^(a+)+$|open" } }
    });
    let outcomes = apply(&Validate::schema(schema), orders());
    assert_eq!(outcomes.emitted.len(), 3);
    assert!(outcomes.emitted.as_rows().is_some());
    assert_eq!(outcomes.failed[0].0, 2);
    let message = outcomes.failed[0].1.message();
    assert_eq!(message, "schema: `/qty`: value is less than the minimum of 1; and 1 more");
    let schema = Validate::schema(json!({"type": "array"}));
    let error = one(&schema, Raw::from(json!({}))).unwrap_err();
    assert_eq!(error, "schema: the item: value is not of type \"array\"");
    assert!(one(&schema, Raw::from(Bytes::from("x"))).unwrap_err().contains("is bytes"));
}

#[test]
fn a_pattern_that_would_backtrack_for_ever_does_not() {
    let schema = Validate::schema(json!({"pattern": "^(a+)+$"}));
    assert!(one(&schema, Raw::from(json!("a".repeat(5_000) + "!"))).is_err());
    assert!(!Validate::schema(json!({"pattern": "(?=a)b"})).validate().is_empty());
}

#[test]
fn rows_become_documents() {
    let convert = Convert::to_document("body").title("subject");
    let made = one(&convert, row(&json!({"body": "b", "subject": null, "id": 7, "none": null}))).unwrap();
    let made = json_of(&made);
    assert_eq!(
        (&made["text"], &made["title"], &made["attributes"]),
        (&json!("b"), &Value::Null, &json!({"id": 7}))
    );
    let made =
        one(&convert.clone().attributes(["id"]), row(&json!({"body": "b", "subject": "s", "id": 7, "x": 1})))
            .unwrap();
    assert_eq!((&json_of(&made)["title"], &json_of(&made)["attributes"]), (&json!("s"), &json!({"id": 7})));
    for (value, message) in [
        (json!({"body": null, "subject": "s"}), "`row.body`: is null"),
        (json!({"subject": "s"}), "`row.body`: is not there: the row has no such column"),
        (
            json!({"body": 7, "subject": "s"}),
            "`row.body`: is no text: make it one with `map` and `string(..)`",
        ),
        (
            json!({"body": "", "subject": "s"}),
            "`document.text`: is empty; set `allow_empty` if that is meant",
        ),
    ] {
        assert_eq!(one(&convert, row(&value)).unwrap_err(), message);
    }
}

#[test]
fn each_pair_of_the_table_converts() {
    let document = |json: &Payload| json_of(json)["text"].clone();
    let text = Convert::to::<Document>();
    assert_eq!(document(&one(&text, Raw::from(json!({"text": "t", "a": 1}))).unwrap()), "t");
    assert_eq!(document(&one(&text, Raw::from(json!("t"))).unwrap()), "t");
    assert_eq!(document(&one(&text, Raw::from(Bytes::from("t"))).unwrap()), "t");
    let made = one(&text, Object::new("a/b.md", "t").unwrap()).unwrap();
    assert_eq!(json_of(&made)["source_uri"], "a/b.md");
    let error = one(&text, Object::new("a", Bytes::from_static(b"ab\xff")).unwrap()).unwrap_err();
    assert_eq!(error, "`object.bytes`: is not UTF-8 from byte 2 on");
    let handle = ObjectFields { key: "k".into(), size: 3, ..Default::default() };
    assert!(one(&text, Object::try_from(handle).unwrap()).unwrap_err().contains("is a handle"));
    assert_eq!(document(&one(&text, Message::new("t").unwrap()).unwrap()), "t");
    assert_eq!(document(&one(&text, Completion::new("m", "t").unwrap()).unwrap()), "t");
    let fields = EmbeddingFields {
        vector: vec![1.0, 0.5],
        model: "m".into(),
        document: Some(Arc::new(Document::new("t").unwrap())),
        ..Default::default()
    };
    let embedding = Embedding::try_from(fields).unwrap();
    assert_eq!(document(&one(&text, embedding.clone()).unwrap()), "t");

    let rows = Convert::to_row();
    let fields = DocumentFields {
        text: "t".into(),
        byte_range: Some(3..9),
        attributes: [("a".into(), json!(1))].into(),
        ..Default::default()
    };
    let made = json_of(&one(&rows, Document::try_from(fields).unwrap()).unwrap());
    let expected = json!({"text": "t", "title": null, "language": null, "mime_type": null, "source_uri": null,
        "byte_start": 3, "byte_end": 9, "chunk": null, "attributes": "{\"a\":1}"});
    assert_eq!(made, expected);
    let made = json_of(&one(&rows, embedding).unwrap());
    assert_eq!(
        (&made["vector"], &made["dimensions"], &made["text"]),
        (&json!([1.0, 0.5]), &json!(2), &json!("t"))
    );
    let fields = CompletionFields {
        model: "m".into(),
        answer: "a".into(),
        usage: Some(Usage::new(3, 4)),
        ..Default::default()
    };
    let made = json_of(&one(&rows, Completion::try_from(fields).unwrap()).unwrap());
    assert_eq!((&made["answer"], &made["input_tokens"]), (&json!("a"), &json!(3)));
    let output = StructuredOutput::new(json!({"a": 1}), json!({})).unwrap();
    assert_eq!(json_of(&one(&rows, output.clone()).unwrap()), json!({"a": 1}));
    assert_eq!(
        one(&rows, Raw::from(json!([1]))).unwrap_err(),
        "`raw`: is no JSON object, so it has no fields"
    );
    assert_eq!(
        one(&rows, Message::new("x").unwrap()).unwrap_err(),
        "`convert`: a message does not become a row"
    );

    let raws = Convert::to_raw();
    assert_eq!(json_of(&one(&raws, row(&json!({"a": 1, "b": null}))).unwrap()), json!({"a": 1, "b": null}));
    assert_eq!(json_of(&one(&raws, output).unwrap()), json!({"a": 1}));
    assert_eq!(json_of(&one(&raws, Message::new("{\"a\":1}").unwrap()).unwrap()), json!({"a": 1}));
    let made = one(&raws, Message::new("no json").unwrap()).unwrap();
    assert!(matches!(made, Payload::Raw(raw) if raw.as_bytes().is_some()));
    assert_eq!(json_of(&one(&raws, Object::new("a.json", "[1]").unwrap()).unwrap()), json!([1]));
    assert!(one(&raws, Object::new("a.json", "[1").unwrap()).unwrap_err().contains("are no JSON"));

    // And the way back.
    let completion = Completion::new("m", "t").unwrap();
    let written = one(&raws, completion.clone()).unwrap();
    let Payload::Raw(written) = written else { panic!() };
    let read = one(&Convert::to::<Completion>(), Arc::unwrap_or_clone(written)).unwrap();
    assert_eq!(read, completion.into());
    assert!(one(&Convert::to::<Completion>(), Raw::from(json!({"answer": "a"}))).is_err());
}

#[test]
fn json_objects_of_a_batch_become_rows_of_one() {
    let objects =
        [json!({"a": 1, "t": {"x": 1}}), json!({"a": 2.5, "b": "x"}), json!({"b": null, "l": [1]}), json!(3)];
    let items = objects
        .iter()
        .enumerate()
        .map(|(i, o)| Item::detached(&i.to_string(), Raw::from(o.clone())).into_primitive());
    let outcomes = apply(&Convert::to_row(), Batch::from_primitives(items.collect()));
    assert_eq!(outcomes.failed.len(), 1);
    let rows = outcomes.emitted.as_rows().expect("one record batch");
    let names: Vec<_> = rows.schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["a", "t", "b", "l"]);
    assert_eq!(json_of(&outcomes.emitted.payload(0)), json!({"a": 1.0, "t": {"x": 1}, "b": null, "l": null}));
    // What no column can hold keeps its own.
    let objects = [json!({"a": 1}), json!({"a": "x"})];
    let items = objects
        .iter()
        .enumerate()
        .map(|(i, o)| Item::detached(&i.to_string(), Raw::from(o.clone())).into_primitive());
    let outcomes = apply(&Convert::to_row(), Batch::from_primitives(items.collect()));
    assert_eq!(outcomes.emitted.len(), 2);
    assert_eq!(json_of(&outcomes.emitted.payload(1)), json!({"a": "x"}));
}

#[test]
fn builder_and_json_are_the_same_document() {
    #[track_caller]
    fn check<A: ActionConfig + PartialEq>(built: &A, text: &str) {
        let written = serde_json::to_string(built).unwrap();
        assert_eq!(written, text);
        let read: A = nvisy_core::config::parse(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(read, *built);
        assert!(ActionType::of::<A>().parse(&serde_json::from_str(text).unwrap()).is_ok());
    }
    check(&Filter::when("row.a == 1"), r#"{"when":"row.a == 1"}"#);
    check(
        &Map::new().set("c", "row.a").project(["a"]).rename("x", "a"),
        r#"{"rename":{"x":"a"},"project":["a"],"set":{"c":"row.a"}}"#,
    );
    check(
        &Convert::to_document("body").title("subject"),
        r#"{"to":"document","text":"body","title":"subject"}"#,
    );
    check(&Convert::to_raw(), r#"{"to":"raw"}"#);
    check(&Deduplicate::by("row.a").memory(64 << 20), r#"{"key":"row.a","memory":"64MiB"}"#);
    check(&Validate::schema(json!({"type": "object"})), r#"{"schema":{"type":"object"}}"#);
    check(
        &Gather::items(5).linger(std::time::Duration::from_millis(1500)),
        r#"{"items":5,"linger":"1s 500ms"}"#,
    );
}

#[test]
fn configs_refuse_what_they_do_not_know() {
    let parse = |name: &str, config: Value| {
        let plugin = plugin();
        let entry = plugin.actions().iter().find(|entry| entry.name() == name).unwrap().clone();
        entry.parse(&config).map(|_| ()).unwrap_err().remove(0)
    };
    let problem = parse("convert", json!({"to": "document", "txt": "body"}));
    assert!(problem.message.contains("txt"), "{problem:?}");
    let problem = parse("convert", json!({"to": "row", "title": "x"}));
    assert_eq!((problem.path.as_str(), problem.message.as_str()), ("title", "a row has no such setting"));
    let problem = parse("convert", json!({"to": "documents"}));
    assert_eq!(problem.path, "to");
    assert_eq!(parse("convert", json!({"to": "custom"})).path, "to");
    assert_eq!(parse("batch", json!({"linger": "soon"})).path, "linger");
    assert!(parse("filter", json!({})).message.contains("when"));
    let names: Vec<_> = plugin().actions().iter().map(|entry| entry.name()).collect();
    assert_eq!(
        names,
        [
            "filter",
            "map",
            "convert",
            "validate",
            "deduplicate",
            "materialize",
            "sort",
            "aggregate",
            "join",
            "batch",
            "dead_letter/replay",
            "dead_letter/tabulate",
        ]
    );
}

#[test]
fn an_empty_batch_is_no_trouble() {
    let configs = || {
        (
            Filter::when("row.a > 1"),
            Map::new().set("x", "row.a"),
            Convert::to_row(),
            Validate::schema(json!({})),
        )
    };
    let (filter, map, convert, validate) = configs();
    assert!(apply(&filter, Batch::empty()).emitted.is_empty());
    assert!(apply(&map, Batch::empty()).emitted.is_empty());
    assert!(apply(&convert, Batch::empty()).emitted.is_empty());
    assert!(apply(&validate, Batch::empty()).emitted.is_empty());
    assert!(apply(&Deduplicate::by_content(), Batch::empty()).emitted.is_empty());
}
