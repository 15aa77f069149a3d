"""Reading and writing files: local disks, object stores, compression."""
