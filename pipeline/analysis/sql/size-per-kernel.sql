-- How large is the BTF of each kernel?
--
-- In bytes. before: vmlinux and every module by itself; after: vmlinux and split BTF.
SELECT kernel,
       modules,
       base_bytes AS vmlinux_bytes,
       bytes_in AS modules_before,
       bytes_out AS modules_after,
       round(bytes_in / bytes_out, 1) AS times_smaller,
       base_types AS vmlinux_types,
       types_in AS types_before,
       types_out AS types_after
FROM kernels
ORDER BY release, kernel;
