-- Up to which document this journal knows a fiscal storage (a figure `fd/<FN>`, written with every turn from here on):
-- a journal that has printed knows its storages up to the last document that it recorded, but for those that a receipt in
-- doubt may have.
INSERT OR REPLACE INTO figures (kkt, name, value)
    SELECT '', 'fd/' || fn_number, min(max(fd_number), ifnull(
        (SELECT min(fd_before) FROM receipts WHERE status = 'printing' AND fn_before = known.fn_number), max(fd_number)
    )) FROM (
        SELECT fn_number, fd_number FROM documents
        UNION ALL
        SELECT s.fn_number, t.fd_number FROM tombstones AS t JOIN storages AS s ON s.id = t.storage
        WHERE t.fd_number IS NOT NULL
    ) AS known
    WHERE fn_number != '' GROUP BY fn_number;
