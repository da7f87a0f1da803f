/** Embeddings on the wire: base64 of little-endian 32-bit floats, a quarter of the size of JSON numbers. */

const PIECE = 0x8000;

export function toBase64(embedding: Float32Array | readonly number[]): string {
  const numbers = Float32Array.from(embedding);
  if (!numbers.every(Number.isFinite)) throw new RangeError("an embedding holds finite 32-bit floating point numbers");
  const view = new DataView(new ArrayBuffer(numbers.length * 4));
  numbers.forEach((number, index) => view.setFloat32(index * 4, number, true));
  const bytes = new Uint8Array(view.buffer);
  let text = "";
  for (let start = 0; start < bytes.length; start += PIECE) text += String.fromCharCode(...bytes.subarray(start, start + PIECE));
  return btoa(text);
}

export function fromBase64(text: string): Float32Array {
  const view = new DataView(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, index) => view.getFloat32(index * 4, true));
}
