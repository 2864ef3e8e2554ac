//! The files of one directory, behind a trait so that tests can fill the disk and pull the plug.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::disk::sync_directory;

/// A directory of files.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Returns the names of the files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file to be read from its start, and says how long it is.
    fn read(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)>;
    /// Returns how long a file is.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Makes a file, or empties it.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file to be written on from its end.
    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes durable which files there are.
    fn sync(&self) -> io::Result<()>;
    /// Names a file in messages.
    fn place(&self, name: &str) -> String;
}

/// A file that is written from some place on.
pub(super) trait DiskFile: Write + Send + Sync {
    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts off what is behind `len`, durably, and writes on from there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A directory of this machine.
#[derive(Clone, Debug)]
pub(super) struct Directory(pub(super) PathBuf);

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn read(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        let file = File::open(self.0.join(name))?;
        let len = file.metadata()?.len();
        Ok((Box::new(BufReader::new(file)), len))
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.0.join(name))?.len())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create(self.0.join(name))?))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        // Not opened for appending: Windows would not let such a file be cut.
        let mut file = OpenOptions::new().write(true).open(self.0.join(name))?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.0)
    }

    fn place(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.seek(SeekFrom::Start(len))?;
        self.sync_all()
    }
}
