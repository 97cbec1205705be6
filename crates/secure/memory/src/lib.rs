//! Guest pages: representations, conversion, views, per-page records.
