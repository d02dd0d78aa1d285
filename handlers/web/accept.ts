/** Whether the client wants a page: browsers accept `text/html`, programs rarely do. */
export function prefersHtml(request: { header(name: string): string | undefined }): boolean {
  return request.header('accept')?.includes('text/html') ?? false;
}
