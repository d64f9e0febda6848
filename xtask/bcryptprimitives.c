/* bcryptprimitives.dll for a Wine older than 9: every Rust program imports ProcessPrng, and Wine 8 has no such DLL.
   `cargo xtask` builds this into its own Wine prefix, and only where the DLL is missing. */
#include <windows.h>

/* RtlGenRandom under its exported name; takes a 32-bit length. */
BOOLEAN WINAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    const SIZE_T most = 1 << 30;
    while (length > 0) {
        ULONG step = (ULONG)(length < most ? length : most);
        if (!SystemFunction036(data, step))
            return FALSE;
        data += step;
        length -= step;
    }
    return TRUE;
}
