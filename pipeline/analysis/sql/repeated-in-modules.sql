-- What do modules repeat, because vmlinux lacks it?
--
-- Each row is a type that several modules keep, equal with all that it leads to: a name has several
-- rows where its types lead to different ones. wasted_bytes: the records of all copies but one.
WITH unnamed AS (
    SELECT kernel, global_id, spelling
    FROM types
    SEMI JOIN (FROM duplicates WHERE name IS NULL) USING (kernel, global_id)
    WHERE name IS NULL
)
SELECT d.kernel,
       d.module_count AS modules,
       d.copies,
       d.wasted_bytes,
       d.kind,
       coalesce(d.name, t.spelling) AS type
FROM duplicates AS d
LEFT JOIN unnamed AS t USING (kernel, global_id)
JOIN kernels AS k ON k.kernel = d.kernel
ORDER BY k.release_key, d.kernel, d.wasted_bytes DESC, d.kind, type, d.global_id;
