-- What the OFD is sent, fixed when the document was made: a repeat under the same key is the same to the byte, whatever
-- settings or release it is sent with. A row goes when the OFD has the document.
CREATE TABLE bodies (
    document INTEGER NOT NULL PRIMARY KEY,
    body BLOB NOT NULL
);
