//! What `lokid demo` needs beside the product itself. Nothing else uses it.

pub mod provider;
