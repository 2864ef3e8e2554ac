//! CSV in, Parquet out: the columns are Arrow from end to end, no row is touched.
//!
//! ```sh
//! cargo run --release --example csv_to_parquet
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use std::fmt::Write;
use std::fs;

use nvisy_runtime::actions::Filter;
use nvisy_runtime::plugins::object::{Csv, CsvSink, Local, Parquet, ParquetSink};
use nvisy_runtime::prelude::*;

const ROWS: u32 = 100_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = examples::output("csv_to_parquet")?;
    fs::write(folder.join("weather.csv"), weather()?)?;
    let engine = Engine::builder().build()?;

    let graph = Graph::builder("csv_to_parquet");
    let files = graph.connect("files", Local::at(&folder));
    graph
        .source("csv", Csv::path("weather.csv").on(&files))
        .sink("parquet", ParquetSink::path("weather.parquet").on(&files));
    let report = engine.run(&graph.build()?).await?;
    print!("{report}");
    let rate = f64::from(ROWS) / report.duration.as_secs_f64();
    let size = |file| fs::metadata(folder.join(file)).map(|file| file.len());
    println!(
        "  {rate:.0} rows a second; {} bytes of CSV, {} of Parquet\n",
        size("weather.csv")?,
        size("weather.parquet")?
    );

    // And back: what Parquet holds, filtered by Arrow kernels.
    let graph = Graph::builder("hot_days");
    let files = graph.connect("files", Local::at(&folder));
    graph
        .source("parquet", Parquet::path("weather.parquet").on(&files))
        .then("hot", Filter::when("row.temperature > 39.5 && row.station.startsWith('north')"))
        .sink("csv", CsvSink::path("hot.csv").on(&files));
    println!("{}", engine.run(&graph.build()?).await?);
    for line in fs::read_to_string(folder.join("hot.csv"))?.lines().take(4) {
        println!("{line}");
    }
    Ok(())
}

/// A year of made-up weather.
fn weather() -> Result<String, std::fmt::Error> {
    let mut csv = String::from("station,day,temperature,rain,note\n");
    for n in 0..ROWS {
        let station = ["north-1", "north-2", "south-1", "west-1"][n as usize % 4];
        let (month, day) = (1 + n / 28 % 12, 1 + n % 28);
        let temperature = f64::from(n * 7919 % 700) / 10.0 - 25.0;
        let note = if n % 50 == 0 { "\"checked, twice\"" } else { "" };
        writeln!(csv, "{station},2025-{month:02}-{day:02},{temperature:.1},{},{note}", n % 13)?;
    }
    Ok(csv)
}
