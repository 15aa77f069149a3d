-- How large is the BTF of each kernel?
--
-- before: the modules' BTF as found; after: their split BTF, with what vmlinux lacks.
SELECT kernel,
       modules,
       base_bytes AS vmlinux_bytes,
       bytes_in AS bytes_before,
       bytes_out AS bytes_after,
       round(bytes_in / nullif(bytes_out, 0), 1) AS times_smaller,
       types_in AS types_before,
       types_out AS types_after
FROM kernels
ORDER BY release_key, kernel;
