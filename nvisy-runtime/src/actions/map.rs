//! `map`: renames, projects and sets fields.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use nvisy_core::config::Problem;
use nvisy_core::error::Error;
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::{KindId, Kinds, Primitive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{all_failed, without};
use crate::expression::{EvaluatedColumn, Expression, Room, Value};

/// Renames, projects and sets fields.
///
/// In this order, whatever the order of the calls: `rename` gives fields other names; `set`
/// evaluates its [expressions](crate::expression), which see the item with its new names, also
/// the fields that `project` leaves out, but nothing of what is set; `project` keeps the fields
/// it names, in that order; what is set then replaces the field of its name, or comes last.
///
/// | over | fields are | `rename`, `project` |
/// |---|---|---|
/// | rows | columns; it runs as Arrow kernels where the expressions allow | yes |
/// | raw JSON objects | the object's own | yes |
/// | documents | `text`, `title`, `language`, `mime_type`, `source_uri`, `attributes.NAME`; null takes away | no |
/// | any item | `meta.tags.NAME` and `meta.custom.NAME`, of its envelope; null takes away | no |
///
/// A column that is set has the type of the first batch that shows it. Lists and maps become lists
/// and structs: in the first batch with the keys of all its maps, null where one has not that key;
/// numbers of two types in them are doubles, and what no other type holds is text, each value its
/// JSON.
///
/// An item fails if a field that is renamed or kept is not there, if two fields would have one
/// name, if an expression cannot be evaluated on it, or if its value does not fit the column's type
/// whole: a map with a key that the struct has not, say, or a number that would be rounded.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "map", "inputs": ["orders"],
///   "config": { "rename": { "qty": "quantity" }, "project": ["id", "quantity"],
///               "set": { "total": "row.quantity * row.price" } } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Map;
///
/// let totals = Map::new()
///     .rename("qty", "quantity")
///     .project(["id", "quantity"])
///     .set("total", "row.quantity * row.price");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// New names of fields, by their old ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// The fields to keep, in this order. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Vec<String>>,
    /// Expressions, by the field that each sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
}

impl Map {
    /// Changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a field another name.
    #[must_use]
    pub fn rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.rename.insert(from.into(), to.into());
        self
    }

    /// Keeps only these fields, in this order.
    #[must_use]
    pub fn project<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.project = Some(fields.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a field to what an expression gives.
    #[must_use]
    pub fn set(mut self, field: impl Into<String>, expression: impl Into<String>) -> Self {
        self.set.insert(field.into(), expression.into());
        self
    }

    fn compiled(&self) -> Vec<Expression> {
        self.set.values().filter_map(|text| Expression::compile(text).ok()).collect()
    }

    /// Returns the kinds that have both the fields that are set and those that are read.
    fn kinds(&self, expressions: &[Expression]) -> Kinds {
        let fields = [KindId::Row, KindId::Raw].into_iter().collect();
        let in_document = |path: &String| match Place::of(path) {
            Place::Own(name) => DOCUMENT.contains(&&*name) || name.starts_with("attributes."),
            _ => true,
        };
        let kinds = if self.set.keys().all(|path| !matches!(Place::of(path), Place::Own(_))) {
            Kinds::ANY
        } else if self.set.keys().all(in_document) {
            Kinds::of(KindId::Document).union(fields)
        } else {
            fields
        };
        let kinds = if self.rename.is_empty() && self.project.is_none() { kinds } else { fields };
        expressions.iter().fold(kinds, |kinds, expression| {
            kinds.iter().filter(|kind| expression.kinds().contains(*kind)).collect()
        })
    }
}

/// What a `set` writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tag(String),
    Custom(String),
    Own(String),
}

impl Place {
    fn of(path: &str) -> Self {
        match (path.strip_prefix("meta.tags."), path.strip_prefix("meta.custom.")) {
            (Some(tag), _) => Self::Tag(tag.to_owned()),
            (_, Some(custom)) => Self::Custom(custom.to_owned()),
            _ => Self::Own(path.to_owned()),
        }
    }
}

const DOCUMENT: [&str; 5] = ["text", "title", "language", "mime_type", "source_uri"];

impl ActionConfig for Map {
    const NAME: &'static str = "map";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        self.kinds(&self.compiled())
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn is_columnar(&self) -> bool {
        self.set.keys().all(|path| matches!(Place::of(path), Place::Own(_)))
            && self.compiled().iter().all(Expression::is_columnar)
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.rename.is_empty() && self.project.is_none() && self.set.is_empty() {
            problems.push(
                Problem::new("", "there is nothing to do").with_help("give `rename`, `project` or `set`"),
            );
        }
        let mut names = BTreeSet::new();
        for (from, to) in &self.rename {
            if !names.insert(to) {
                problems.push(Problem::new(
                    format!("rename.{from}"),
                    format!("another field is named `{to}` too"),
                ));
            }
        }
        let mut names = BTreeSet::new();
        for (index, name) in self.project.iter().flatten().enumerate() {
            if !names.insert(name) {
                problems.push(Problem::new(format!("project[{index}]"), format!("`{name}` is kept already")));
            }
            if let Some(to) = self.rename.get(name).filter(|_| !self.rename.values().any(|to| to == name)) {
                let problem =
                    Problem::new(format!("project[{index}]"), format!("`{name}` is renamed before"));
                problems.push(problem.with_help(format!("write `{to}`")));
            }
        }
        let mut expressions = Vec::new();
        for (field, text) in &self.set {
            if field.is_empty() {
                problems.push(Problem::new("set", "a field without a name cannot be set"));
            }
            match Expression::compile(text) {
                Ok(expression) => expressions.push(expression),
                error => problems.extend(super::problem_of(format!("set.{field}"), error)),
            }
        }
        if self.kinds(&expressions).is_empty() {
            let problem =
                Problem::new("", "no kind of item has both the fields that are set and those that are read");
            problems.push(problem.with_help("put a `convert` in between, or set `meta.tags.NAME`"));
        }
        problems
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let sets = self.set.iter().map(|(path, text)| Ok((Place::of(path), Expression::compile(text)?)));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        let own = sets.iter().all(|(place, _)| matches!(place, Place::Own(_)));
        Ok(Action::columnar(Mapping {
            rename: self.rename.clone(),
            project: self.project.clone(),
            sets,
            own,
            types: Mutex::default(),
        }))
    }
}

struct Mapping {
    rename: BTreeMap<String, String>,
    project: Option<Vec<String>>,
    sets: Vec<(Place, Expression)>,
    /// Whether the envelope stays as it is.
    own: bool,
    /// The types of the columns that are set, from the first batch on that shows them.
    types: Mutex<HashMap<String, DataType>>,
}

impl Columnar for Mapping {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        let step = context.step();
        let mut room = Room::of(batch.len());
        if batch.kinds() == Kinds::of(KindId::Row)
            && let Ok(rows) = batch.to_rows()
        {
            let rows = match self.renamed(&rows) {
                Ok(rows) => rows,
                Err(error) => return Ok(all_failed(&batch, &error)),
            };
            let (mapped, failed) = self.rows(&batch.with_rows(rows)?, &mut room)?;
            let (emitted, attribution) = match mapped {
                Some(mapped) => without(mapped, &failed),
                None => (Batch::empty(), Attribution::Each(Vec::new())),
            };
            return Ok(Outcomes {
                emitted: emitted.edited(&step),
                attribution,
                dropped: Vec::new(),
                absorbed: 0,
                failed,
            });
        }
        let outcomes = batch.iter().map(|item| match self.item(item, &mut room) {
            Ok(item) => Ok(item.typed::<Any>().map_or_else(Outcome::Fail, Outcome::Emit)),
            Err(error) if Room::is_short(&error) => Err(error),
            Err(error) => Ok(Outcome::Fail(error)),
        });
        Outcomes::collect(&batch, &step, outcomes.collect::<Result<_>>()?)
    }
}

type Failed = Vec<(u32, Error)>;

impl Mapping {
    fn renamed(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if self.rename.is_empty() {
            return Ok(rows.clone());
        }
        let schema = rows.schema_ref();
        for from in self.rename.keys() {
            if schema.column_with_name(from).is_none() {
                return Err(missing(from, "rename"));
            }
        }
        let mut names = BTreeSet::new();
        let fields = schema.fields().iter().map(|field| {
            let name = self.rename.get(field.name()).unwrap_or(field.name());
            if !names.insert(name) {
                return Err(twice(name));
            }
            Ok(if name == field.name() {
                field.clone()
            } else {
                Arc::new(field.as_ref().clone().with_name(name))
            })
        });
        let fields = fields.collect::<Result<Vec<_>>>()?;
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        build(schema, rows.columns().to_vec(), rows.num_rows())
    }

    /// Maps rows that have their new names; none if they all fail.
    fn rows(&self, batch: &Batch, room: &mut Room) -> Result<(Option<Batch>, Failed)> {
        let Some(rows) = batch.as_rows() else { return Err(Error::internal("rows are no rows")) };
        let schema = rows.schema_ref();
        let mut failed = BTreeMap::new();
        let mut columns: Vec<(Arc<Field>, ArrayRef)> =
            Vec::with_capacity(rows.num_columns() + self.sets.len());
        match &self.project {
            None => columns.extend(schema.fields().iter().cloned().zip(rows.columns().iter().cloned())),
            Some(names) => {
                for name in names {
                    let Some((index, _)) = schema.column_with_name(name) else {
                        return Ok((None, all_failed(batch, &missing(name, "project")).failed));
                    };
                    columns.push((schema.fields()[index].clone(), rows.column(index).clone()));
                }
            }
        }
        for (place, expression) in &self.sets {
            let Place::Own(name) = place else { continue };
            let before = self.types.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
            let column = expression.evaluate_column_within(batch, before.as_ref(), room)?;
            let column = self.typed(name, expression, column);
            for (index, error) in column.faults {
                failed.entry(index).or_insert(error);
            }
            let field = Arc::new(Field::new(name, column.values.data_type().clone(), true));
            match columns.iter_mut().find(|(known, _)| known.name() == name) {
                Some(known) => *known = (field, column.values),
                None => columns.push((field, column.values)),
            }
        }
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let mapped =
            build(Schema::new_with_metadata(fields, schema.metadata().clone()), arrays, rows.num_rows())?;
        let mapped = batch.without_tokens().with_rows(mapped)?;
        if self.own {
            return Ok((Some(mapped), failed.into_iter().collect()));
        }
        let items = mapped.iter().zip(batch.iter()).zip(0..).map(|((item, before), index)| {
            match self.envelope(item.clone(), &before, room) {
                Ok(item) => Ok(item),
                Err(error) if Room::is_short(&error) => Err(error),
                Err(error) => {
                    failed.entry(index).or_insert(error);
                    Ok(item)
                }
            }
        });
        let mapped = Batch::from_primitives(items.collect::<Result<_>>()?);
        Ok((Some(mapped), failed.into_iter().collect()))
    }

    /// Gives a column the type that it had in the batches before.
    fn typed(&self, name: &str, expression: &Expression, column: EvaluatedColumn) -> EvaluatedColumn {
        let found = column.values.data_type();
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        match types.get(name) {
            Some(known) => column.with_type(known, expression.text()),
            None => {
                if *found != DataType::Null {
                    types.insert(name.to_owned(), found.clone());
                }
                column
            }
        }
    }

    /// Sets what is in the envelope, by what the item was `before`.
    fn envelope(&self, mut item: Primitive, before: &Primitive, room: &mut Room) -> Result<Primitive> {
        for (place, expression) in &self.sets {
            let (Place::Tag(name) | Place::Custom(name)) = place else { continue };
            let value = expression.evaluate(before)?;
            room.take(value.bytes(), expression.text())?;
            item = item.edit_metadata(|metadata| match (place, value) {
                (Place::Tag(_), Value::Null) => drop(metadata.tags.remove(name)),
                (Place::Tag(_), value) => drop(metadata.tags.insert(name.clone(), text_of(&value))),
                (_, Value::Null) => drop(metadata.custom.remove(name)),
                (_, value) => drop(metadata.custom.insert(name.clone(), value.to_json())),
            });
        }
        Ok(item)
    }

    fn item(&self, item: Primitive, room: &mut Room) -> Result<Primitive> {
        let fields = !self.rename.is_empty() || self.project.is_some();
        let (payload, before) = match item.payload() {
            Payload::Row(row) => {
                let row = self.renamed(&row.batch().slice(row.index(), 1))?;
                let row = item.clone().with_payload(Row::new(Arc::new(row), 0)?);
                let (mapped, mut failed) = self.rows(&Batch::from_primitives(vec![row]), room)?;
                return match (failed.pop(), mapped) {
                    (Some((_, error)), _) => Err(error),
                    (None, Some(mapped)) if mapped.len() == 1 => Ok(mapped.primitive(0)),
                    _ => Err(Error::internal("a row did not become one row")),
                };
            }
            Payload::Raw(raw) if fields || self.sets_own() => {
                let Some(Json::Object(object)) = raw.as_json() else {
                    return Err(Error::invalid("raw", "is no JSON object, so it has no fields to map")
                        .at_item(item.id()));
                };
                let renamed = self.rename_object(object)?;
                let before = item.clone().with_payload(Raw::Json(Json::Object(renamed.clone())));
                let mut object = self.project_object(renamed)?;
                for (name, value) in self.own_values(&before, room)? {
                    object.insert(name.to_owned(), value.to_json());
                }
                (Raw::Json(Json::Object(object)).into(), before)
            }
            Payload::Document(document) if !fields && self.sets_own() => {
                let mut fields = Document::clone(document).into_fields();
                for (name, value) in self.own_values(&item, room)? {
                    set_in_document(&mut fields, name, value)?;
                }
                (Document::try_from(fields)?.into(), item.clone())
            }
            payload if !fields && !self.sets_own() => (payload.clone(), item.clone()),
            other => {
                let message = format!("has no such fields in a {}: put a `convert` in between", other.kind());
                return Err(Error::invalid("map", message).at_item(item.id()));
            }
        };
        self.envelope(item.with_payload(payload), &before, room)
    }

    fn sets_own(&self) -> bool {
        self.sets.iter().any(|(place, _)| matches!(place, Place::Own(_)))
    }

    fn own_values(&self, item: &Primitive, room: &mut Room) -> Result<Vec<(&str, Value)>> {
        let own = self.sets.iter().filter_map(|(place, expression)| match place {
            Place::Own(name) => Some((name, expression)),
            _ => None,
        });
        let own = own.map(|(name, expression)| {
            let value = expression.evaluate(item)?;
            room.take(value.bytes(), expression.text())?;
            Ok((name.as_str(), value))
        });
        own.collect()
    }

    fn rename_object(&self, object: &serde_json::Map<String, Json>) -> Result<serde_json::Map<String, Json>> {
        if let Some(from) = self.rename.keys().find(|from| !object.contains_key(*from)) {
            return Err(missing(from, "rename"));
        }
        let mut renamed = serde_json::Map::new();
        for (name, value) in object {
            let name = self.rename.get(name).unwrap_or(name);
            if renamed.insert(name.clone(), value.clone()).is_some() {
                return Err(twice(name));
            }
        }
        Ok(renamed)
    }

    fn project_object(
        &self,
        mut object: serde_json::Map<String, Json>,
    ) -> Result<serde_json::Map<String, Json>> {
        let Some(names) = &self.project else { return Ok(object) };
        let keep =
            |name: &String| Ok((name.clone(), object.remove(name).ok_or_else(|| missing(name, "project"))?));
        names.iter().map(keep).collect()
    }
}

fn build(schema: Schema, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
        .map_err(|error| Error::internal("the mapped columns make no record batch").with_source(error))
}

fn missing(name: &str, setting: &str) -> Error {
    Error::invalid(name, format!("is not there, and `{setting}` names it"))
}

fn twice(name: &str) -> Error {
    Error::invalid(name, "would be the name of two fields: rename the other as well")
}

/// A value as a tag: a text as it is, others as their JSON.
fn text_of(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => match other.to_json() {
            Json::String(text) => text,
            json => json.to_string(),
        },
    }
}

fn set_in_document(fields: &mut DocumentFields, name: &str, value: Value) -> Result<()> {
    if let Some(attribute) = name.strip_prefix("attributes.") {
        match value {
            Value::Null => drop(fields.attributes.remove(attribute)),
            value => drop(fields.attributes.insert(attribute.to_owned(), value.to_json())),
        }
        return Ok(());
    }
    let text = match value {
        Value::Null => None,
        Value::Text(text) => Some(text),
        _ => return Err(Error::invalid(format!("document.{name}"), "is a text: set it to `string(..)`")),
    };
    match name {
        "text" => fields.text = text.unwrap_or_default(),
        "title" => fields.title = text,
        "language" => fields.language = text,
        "mime_type" => fields.mime_type = text,
        "source_uri" => fields.source_uri = text,
        _ => {
            let names = DOCUMENT.join("`, `");
            let message =
                format!("is no field of a document: those to set are `{names}` and `attributes.NAME`");
            return Err(Error::invalid(name, message));
        }
    }
    Ok(())
}
