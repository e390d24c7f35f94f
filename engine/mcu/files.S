/* Files as bytes of the program. */
.macro file name, path
  .global \name, \name\()_end
  .balign 64
\name:
  .incbin "\path"
\name\()_end:
  .byte 0
.endm
  .section .rodata
  file plan, PLAN
  file images, IMAGES
  .section .note.GNU-stack, "", %progbits
