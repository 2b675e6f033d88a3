"""Programs that combine what clients keep private: averaging and clustering."""
